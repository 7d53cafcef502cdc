// A certified OpenID Connect issuer for tests. It ends when its standard input is closed.
//   node server.mjs FOLDER SETTINGS    FOLDER holds node_modules; SETTINGS is JSON {port, keys, clients: {id: {secret, groups}}}
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [folder, text] = process.argv.slice(2);
const settings = JSON.parse(text);
const { Provider } = await import(pathToFileURL(createRequire(`${folder}/`).resolve("oidc-provider")));

const server = createServer();
server.listen(settings.port, "127.0.0.1", () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  const provider = new Provider(issuer, {
    jwks: { keys: settings.keys },
    clients: Object.entries(settings.clients).map(([client_id, { secret }]) => ({
      client_id,
      client_secret: secret,
      grant_types: ["client_credentials"],
      id_token_signed_response_alg: settings.keys[0].alg,
      response_types: [],
      redirect_uris: [],
    })),
    extraTokenClaims: (_context, token) => ({ groups: settings.clients[token.clientId].groups }),
    features: {
      clientCredentials: { enabled: true },
      devInteractions: { enabled: false },
      resourceIndicators: {
        enabled: true,
        getResourceServerInfo: (_context, resource) => ({
          scope: "act",
          audience: resource.replace("urn:", ""),
          accessTokenFormat: "jwt",
          accessTokenTTL: 600,
          jwt: { sign: { alg: settings.keys[0].alg } },
        }),
      },
    },
  });
  server.on("request", provider.callback());
  process.stdout.write(`${JSON.stringify({ issuer })}\n`);
});

process.stdin.on("end", () => process.exit(0));
process.stdin.resume();
