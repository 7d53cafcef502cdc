"""The Rust kernels: what a statement can do, what a rule says, where a frame ends, what is sensitive."""

from sealgate_native import mask as mask
from sealgate_native import policy as policy
from sealgate_native import postgres as postgres
from sealgate_native import record as record
from sealgate_native import relay as relay
from sealgate_native import sql as sql
