"""A running service is backed up; on another machine it goes on from there."""

import json
import shutil
from pathlib import Path

from tests.e2e.conftest import serving
from tests.kit.dockerd import PrivateDockerd
from tests.kit.service_process import ServiceProcess


def test_a_service_goes_on_from_its_backup(
    service: ServiceProcess, dockerd: PrivateDockerd, tmp_path: Path
) -> None:
    folder = tmp_path / "backup"
    service.run("foo", 1, containerPorts=["22"]).ok()
    first = service.cli("backup", str(folder), *backup_flags(service.data_dir))
    assert first.returncode == 0, first.stderr
    service.call("PATCH", "/replicaSet/foo", {"gpuPatch": {"gpuCount": 2}}).ok()
    service.shell("foo", "echo mine > /root/f")
    second = service.cli("backup", str(folder), *backup_flags(service.data_dir), "--json")
    assert json.loads(second.stdout)["records"] == service.last_seq()
    before = service.answers()
    assert service.stop() == 0

    verified = service.cli("backup", str(folder), "--verify")
    assert verified.returncode == 0, verified.stderr
    assert "all is as it was written" in verified.stdout
    # Where it was, so that the containers are found by who made them.
    shutil.move(service.data_dir, tmp_path / "lost")
    restored = service.cli("restore", str(folder), *backup_flags(service.data_dir))
    assert restored.returncode == 0, restored.stderr
    where = f"--data-dir {service.data_dir} --node test"
    assert f"start the service: 'gpuledger serve {where}'" in restored.stdout
    assert "data disks are not in a backup" in restored.stdout
    service.start()
    assert service.answers() == before
    assert service.shell("foo", "cat /root/f") == "mine\n"
    assert service.leases() == (2, 1)
    assert service.check().returncode == 0
    # What comes then is added to the same backup.
    third = service.cli("backup", str(folder), *backup_flags(service.data_dir))
    assert third.returncode == 0, third.stderr
    assert "rsync -aS" in third.stdout


def test_it_is_refused_in_one_line(tmp_path: Path, dockerd: PrivateDockerd) -> None:
    with serving(tmp_path / "data", dockerd) as service:
        folder = tmp_path / "backup"
        flags = backup_flags(service.data_dir)
        assert service.cli("backup", str(folder), *flags).returncode == 0
        beside = service.cli("restore", str(folder), *flags)
        assert (beside.returncode, beside.stderr.count("\n")) == (2, 1), beside.stderr
        assert "is not empty" in beside.stderr
        (part,) = folder.glob("ledger-*")
        part.write_bytes(part.read_bytes()[:-20])
        for command in (("backup",), ("backup", "--verify"), ("restore",)):
            told = service.cli(*command, str(folder), "--data-dir", str(tmp_path / "new"))
            if command == ("backup",):
                told = service.cli(*command, str(folder), *flags)
            assert (told.returncode, told.stderr.count("\n")) == (1, 1), told.stderr
            assert f"{part} is damaged at line" in told.stderr
        assert not (tmp_path / "new").exists()


def backup_flags(data_dir: Path) -> list[str]:
    return ["--data-dir", str(data_dir), "--node", "test"]
