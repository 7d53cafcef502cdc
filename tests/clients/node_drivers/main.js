// What a Node program does with a database, through node-postgres and postgres.js.
// Prints one line per step: "ok NAME", or "NAME: what went wrong". Arguments: port, file of the certificate authority.
import { readFileSync } from "node:fs";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";

import pg from "pg";
import copy from "pg-copy-streams";
import Cursor from "pg-cursor";
import postgres from "postgres";

const [port, authority] = process.argv.slice(2);
const options = {
  host: "localhost",
  port: Number(port),
  user: "agent",
  password: process.env.PGPASSWORD,
  database: "shop",
  ssl: { ca: readFileSync(authority) },
};

async function step(name, run) {
  try {
    await run();
    console.log("ok", name);
  } catch (error) {
    console.log(`${name}: ${error.code} ${error.message}`);
  }
}

function expect(holds, otherwise) {
  if (!holds) throw new Error(otherwise);
}

function check({ id, name, ssn }) {
  expect(name === `Customer ${id}`, `another row: ${name}`);
  expect(ssn === null || !ssn.includes("-12-"), "a planted value");
}

async function withPg() {
  const client = new pg.Client(options);
  await client.connect();
  await step("pg simple", async () => {
    const result = await client.query("select id, name, ssn from customers order by id limit 5");
    result.rows.forEach(check);
  });
  await step("pg parameters", async () => {
    for (let id = 1; id < 8; id++) {
      check((await client.query("select id, name, ssn from customers where id = $1", [id])).rows[0]);
    }
  });
  await step("pg named", async () => {
    for (let id = 1; id < 8; id++) {
      const text = "select id, name, ssn from customers where id = $1";
      check((await client.query({ name: "by-id", text, values: [id] })).rows[0]);
    }
  });
  await step("pg types", async () => {
    const values = [[1, 2], { a: 1 }, new Date(0), Buffer.from([0, 255]), null];
    const text = "select $1::int[] a, $2::jsonb j, $3::timestamptz t, $4::bytea b, $5::text n";
    const row = (await client.query(text, values)).rows[0];
    expect(row.a[1] === 2 && row.j.a === 1 && row.t.getTime() === 0 && row.b[1] === 255 && row.n === null, "other values");
  });
  await step("pg transaction", async () => {
    await client.query("BEGIN");
    await client.query("insert into orders (customer, amount) values ($1, $2) returning id", [1, 2]);
    await client.query("SAVEPOINT s");
    await client.query("select 1 / 0").catch(() => client.query("ROLLBACK TO SAVEPOINT s"));
    await client.query("COMMIT");
  });
  await step("pg cursor", async () => {
    const cursor = client.query(new Cursor("select id from customers order by id"));
    const [first, second] = [await cursor.read(7), await cursor.read(7)];
    await cursor.close();
    expect(first.length === 7 && second[0].id === 8, "other rows");
  });
  await step("pg copy", async () => {
    const stream = client.query(copy.from("copy events (id, note) from stdin with (format csv)"));
    await pipeline(Readable.from(["1,one\n2,two\n"]), stream);
    expect(stream.rowCount === 2, "another count");
  });
  await step("pg several statements", async () => {
    const results = await client.query("select 1 as a; select 2 as b");
    expect(results[1].rows[0].b === 2, "other results");
  });
  await step("refused drop", () => client.query("drop table orders"));
  await client.end();
  await step("pg pool", async () => {
    const pool = new pg.Pool({ ...options, max: 5, statement_timeout: 5000, application_name: "test" });
    const text = "select id, name, ssn from customers where id = $1";
    const results = await Promise.all(Array.from({ length: 40 }, (_, row) => pool.query(text, [row + 1])));
    results.forEach((result) => check(result.rows[0]));
    await pool.end();
  });
}

async function withPostgresJs() {
  const { user, ...others } = options;
  const sql = postgres({ ...others, username: user, max: 2 });
  await step("postgres.js masked select", async () => {
    for (let id = 1; id < 8; id++) check((await sql`select id, name, ssn from customers where id = ${id}`)[0]);
  });
  await step("postgres.js insert", async () => {
    const rows = [{ customer: 1, amount: 2 }, { customer: 2, amount: 3 }];
    expect((await sql`insert into orders ${sql(rows)} returning id`).length === 2, "another count");
  });
  await step("postgres.js list", async () => {
    const [row] = await sql`select count(*)::int from customers where id in ${sql([1, 2, 3])}`;
    expect(row.count === 3, "another count");
  });
  await step("postgres.js savepoint", () =>
    sql.begin(async (transaction) => {
      await transaction.savepoint((inner) => inner`select 1 / 0`).catch(() => {});
      await transaction`update orders set amount = 4 where id = 1`;
    }),
  );
  await step("postgres.js cursor", async () => {
    let count = 0;
    for await (const rows of sql`select id from customers`.cursor(7)) count += rows.length;
    expect(count === 100, "another count");
  });
  await step("postgres.js parallel", async () => {
    const many = Array.from({ length: 40 }, (_, row) => sql`select id, name, ssn from customers where id = ${row + 1}`);
    (await Promise.all(many)).forEach(([row]) => check(row));
  });
  await step("postgres.js copy", async () => {
    const stream = await sql`copy events (id, note) from stdin`.writable();
    await pipeline(Readable.from(["1\tone\n"]), stream);
  });
  await sql.end();
}

await withPg();
await withPostgresJs();
