"""Git: fetches and pushes, whatever carries them. Shared by the SSH and the HTTPS door.

Specification: gitprotocol-common(5) (pkt-lines), gitprotocol-pack(5) (fetch and push), gitprotocol-capabilities(5), gitprotocol-v2(5).

    git push                       gateway                                   receive-pack
     │ git-receive-pack '/repo'     │                                            │
     ├─────────────────────────────▶│  the carrier's own action is judged first  │
     │◀──────────────────────────── │ ◀──────────────────── the refs it has ──── │
     │ old new ref … flush          │  held back; one `git` action is judged     │
     ├─────────────────────────────▶│                                            │
     │◀── ng ref reason ─────────── ┤  blocked: the target gets an empty push    │
     │ pack                         ├── allowed: commands, then the pack ───────▶│

The parts: `parse.py` pkt-lines and command lists, `events.py` what was asked, `actions.py` events to actions, `enforce.py` the answers.

Understood: fetch and push in protocol versions 0 to 2, push options, atomic pushes, shallow pushes. Refused: signed pushes, whose
certificate nobody here reads. Not seen over SSH: the content of packs; the object ids of an update commit to it.
"""
