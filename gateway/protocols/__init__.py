"""One folder per protocol, the same files in each: events, parse, actions, enforce. Pure: no I/O, no policy, no clock."""
