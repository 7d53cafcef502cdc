"""Stock sftp, scp in both protocols, and rsync: each file judged, counted, masked."""

import subprocess

import pytest

CARDS = "card 4111 1111 1111 1111 ok\n" * 2_000


@pytest.fixture(params=[[], ["-O"]], ids=["sftp", "scp"])
def protocol(request):
    return request.param


def test_files_go_both_ways_unchanged(agent, protocol, place, tmp_path):
    data = bytes(range(256)) * 3_000
    (tmp_path / "up").write_bytes(data)
    assert agent.run("scp", *protocol, tmp_path / "up", f"web-1:{place}/up").returncode == 0
    assert (place / "up").read_bytes() == data
    assert agent.run("scp", *protocol, f"web-1:{place}/up", tmp_path / "down").returncode == 0
    assert (tmp_path / "down").read_bytes() == data


def test_folders_go_both_ways(agent, protocol, place, tmp_path):
    (tmp_path / "tree/sub").mkdir(parents=True)
    (tmp_path / "tree/sub/file").write_text("x")
    (tmp_path / "tree/empty").write_text("")
    assert agent.run("scp", "-r", *protocol, tmp_path / "tree", f"web-1:{place}/").returncode == 0
    assert agent.run("scp", "-r", *protocol, f"web-1:{place}/tree", tmp_path / "back").returncode == 0
    assert (tmp_path / "back/sub/file").read_text() == "x"
    assert (tmp_path / "back/empty").read_text() == ""


def test_findings_in_files_are_masked_in_place(agent, protocol, place, tmp_path):
    (place / "cards").write_text(CARDS)
    assert agent.run("scp", *protocol, f"web-1:{place}/cards", tmp_path / "cards").returncode == 0
    text = (tmp_path / "cards").read_text()
    assert len(text) == len(CARDS)
    assert "4111" not in text
    assert text.count("card ") == 2_000


def test_paths_outside_are_refused(agent, protocol, tmp_path):
    (tmp_path / "up").write_text("x")
    up = agent.run("scp", *protocol, tmp_path / "up", "web-1:/etc/sealgate-test")
    down = agent.run("scp", *protocol, "web-1:/etc/hostname", tmp_path / "down")
    for done in (up, down):
        assert done.returncode != 0
        assert b"default.deny." in done.stderr
        assert b"decision " in done.stderr
    assert not (tmp_path / "down").exists() or (tmp_path / "down").read_bytes() == b""


def test_a_path_that_climbs_out_is_refused(agent, protocol, place, tmp_path):
    (tmp_path / "up").write_text("x")
    done = agent.run("scp", *protocol, tmp_path / "up", f"web-1:{place}/../../../../../../../../etc/sealgate-test")
    assert done.returncode != 0


def test_a_path_that_climbs_out_of_a_link_is_refused(agent, protocol, place, tmp_path):
    (place / "link").unlink(missing_ok=True)
    (place / "link").symlink_to("/etc/ssh")
    done = agent.run("scp", *protocol, f"web-1:{place}/link/../hostname", tmp_path / "down")
    (place / "link").unlink()
    assert done.returncode != 0
    assert not (tmp_path / "down").exists() or (tmp_path / "down").read_bytes() == b""


def test_each_sftp_operation_is_judged(agent, place):
    (place / "old").write_text("x")
    batch = f"""
        -rm /etc/hostname
        -chmod 4755 {place}/old
        -chown 1 {place}/old
        -ln -s /etc/shadow {place}/link
        mkdir {place}/folder
        rename {place}/old {place}/folder/new
        chmod 640 {place}/folder/new
        ls -l {place}/folder
        rm {place}/folder/new
        rmdir {place}/folder
    """
    done = agent.run("sftp", "-b", "-", "web-1", data=batch.encode())
    text = done.stderr.decode()
    assert done.returncode == 0, text
    for rule in ("default.deny.write", "ssh.files.setuid", "default.deny.privilege", "ssh.credentials.path"):
        assert rule in text
    assert not (place / "link").is_symlink()


def test_files_above_the_limit_are_refused(make_ssh_gateway, make_ssh_connection, make_client, place, tmp_path, protocol):
    (tmp_path / "big").write_bytes(bytes(200_000))
    with make_ssh_gateway(tmp_path / "gateway", connections=[make_ssh_connection(max_file_bytes=100_000)]) as running:
        client = make_client(running)
        done = client.run("scp", *protocol, tmp_path / "big", f"web-1:{place}/{tmp_path.name}")
        assert done.returncode != 0
    arrived = place / tmp_path.name
    assert not arrived.exists() or arrived.stat().st_size <= 100_000


def test_rules_can_withhold_files_with_findings_and_limit_sizes(
    make_ssh_gateway, make_ssh_connection, make_client, place, tmp_path, protocol
):
    (place / "with-card").write_text("card 4111 1111 1111 1111 ok\n")
    (place / "without").write_text("nothing here\n")
    (place / "long").write_text("x" * 60_000)
    connection = make_ssh_connection(labels={"files": "strict"})
    with make_ssh_gateway(tmp_path / "gateway", connections=[connection]) as running:
        client = make_client(running)
        withheld = client.run("scp", *protocol, f"web-1:{place}/with-card", tmp_path / "card")
        long = client.run("scp", *protocol, f"web-1:{place}/long", tmp_path / "long")
        assert client.run("scp", *protocol, f"web-1:{place}/without", tmp_path / "plain").returncode == 0
        (place / "just").write_text("x" * 50_000)
        assert client.run("scp", *protocol, f"web-1:{place}/just", tmp_path / "just").returncode == 0
    assert withheld.returncode != 0
    assert long.returncode != 0
    assert not (tmp_path / "card").exists() or b"4111" not in (tmp_path / "card").read_bytes()
    assert not (tmp_path / "long").exists() or (tmp_path / "long").stat().st_size <= 50_000
    assert "withheld" in {record["status"] for record in running.read_records() if record["type"] == "outcome"}


def test_rsync_is_for_named_groups(agent, operator, place, tmp_path):
    (place / "sync").mkdir(exist_ok=True)
    (place / "sync/file").write_text("synchronised")
    refused = subprocess.run(
        ["rsync", "-a", "-e", agent.ssh_command, f"web-1:{place}/sync/", tmp_path / "a"],
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert b"default.deny.read" in refused.stderr
    allowed = subprocess.run(
        ["rsync", "-a", "-e", operator.ssh_command, f"web-1:{place}/sync/", tmp_path / "b"],
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert allowed.returncode == 0, allowed.stderr
    assert (tmp_path / "b/file").read_text() == "synchronised"
    outside = subprocess.run(
        ["rsync", "-a", "-e", operator.ssh_command, "web-1:/etc/apt/", tmp_path / "c"],
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert b"default.deny.read" in outside.stderr
