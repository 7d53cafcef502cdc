"""`sealgate demo`: the whole story on real parts, in under a minute.

world.py    starts them: PostgreSQL, a development issuer and Sigstore, the gateway as its own process
scenes.py   what an agent and a reviewer do with stock psql and sealgate's own commands, and what must come of it
proof.py    the evidence verified offline, by ours and by the stock `sigstore`, and tampered copies caught
story.py    plays the scenes in order and reports each step
"""
