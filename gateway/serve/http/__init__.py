"""The HTTP host.

proxy.py       mitmproxy as a library: the listeners, and the handler of each client connection
client.py      what one client connection has proven and asked for
exchange.py    one request and its response, from head to outcome; delivery.py how the response reaches the agent
credentials.py the gateway's own proof to services; authority.py and tls.py certificates
host.py        what all exchanges of a worker share; sessions.py which exchanges belong together
start.py       builds the host from the configuration
"""
