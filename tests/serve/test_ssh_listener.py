"""The SSH listener ends when it is told to."""

import asyncio

import pytest

from gateway.secrets import SecretResolver
from gateway.serve.ssh.listener import SshHost
from gateway.serve.ssh.servers import HostLimits
from gateway.serve.ssh.upstream import TargetPool


def make_host():
    return SshHost(
        pipeline=None,  # nobody connects
        verify=None,
        connections={},
        pool=TargetPool(SecretResolver(), idle_s=1),
        keys=None,
        users=None,
        names=("sealgate",),
        masking=None,
        limits=HostLimits(
            login_timeout_s=1,
            max_sessions=1,
            max_sessions_per_subject=1,
            max_session_s=1,
            max_auth_tries=1,
            max_channels=1,
            rekey_bytes=1 << 30,
            keepalive_s=1,
            idle_timeout_s=1,
        ),
    )


@pytest.mark.timeout(20)
async def test_a_stop_ends_when_the_last_work_has_just_ended():
    """What ended in this very turn of the loop is still in the set; waiting for it must give the loop its next turn."""
    host = make_host()
    host.spawn(asyncio.sleep(0))
    await asyncio.sleep(0)
    stopping = asyncio.create_task(host.stop(0))
    await stopping
    assert not host._tasks


async def test_a_stop_waits_for_what_runs():
    host, may_end, ended = make_host(), asyncio.Event(), []

    async def work():
        await may_end.wait()
        ended.append(True)

    host.spawn(work())
    stopping = asyncio.create_task(host.stop(0))
    await asyncio.sleep(0)
    assert not stopping.done()
    may_end.set()
    await stopping
    assert ended == [True]
