"""The other place for checkpoints is not this host's: it may hang, and others may write there."""

import threading
from pathlib import Path

import pytest

from service.adapters.checkpoint_files import CheckpointFiles, elsewhere_in, read_checkpoints
from service.errors import AuditError
from tests.contract.test_checkpointing import checkpoint
from tests.kit.hung_mount import hung_mount


async def test_a_mount_that_never_answers_is_given_up(tmp_path: Path) -> None:
    """So that signing goes on, and somebody hears of it."""
    away = tmp_path / "mount"
    book = CheckpointFiles(tmp_path, elsewhere_in(away, "n1"), mirror_s=0.1)
    await book.add(checkpoint(1))
    with hung_mount(away):
        with pytest.raises(AuditError, match=r"mount.* does not answer within 0\.1 s"):
            await book.mirror()
        with pytest.raises(AuditError, match="still does not answer"):
            await book.mirror()
        await book.add(checkpoint(2))
    for thread in threading.enumerate():
        if thread.name == "audit-dir":
            thread.join(5)
    await book.mirror()
    assert len(read_checkpoints(elsewhere_in(away, "n1"))) == 2


async def test_no_link_is_followed(tmp_path: Path) -> None:
    """The service is root: what it adds to must not be a file of this host."""
    (tmp_path / "victim").write_text("no line's end")
    elsewhere_in(tmp_path, "n1").symlink_to(tmp_path / "victim")
    book = CheckpointFiles(tmp_path, elsewhere_in(tmp_path, "n1"))
    await book.add(checkpoint(1))
    with pytest.raises(AuditError, match="n1"):
        await book.mirror()
    assert (tmp_path / "victim").read_text() == "no line's end"
