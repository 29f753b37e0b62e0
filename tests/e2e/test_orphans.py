"""Orphans: what is ours and in no record is told, and removed when somebody says so."""

from pathlib import Path

from events.labels import LABEL_OWNER
from tests.e2e.conftest import IMAGE
from tests.kit.dockerd import PrivateDockerd
from tests.kit.service_process import ServiceProcess


def test_orphans_of_every_kind(service: ServiceProcess, dockerd: PrivateDockerd) -> None:
    service.run("foo", dataDisk={"size": "20MB"}).ok()
    service.call("PATCH", "/replicaSet/foo", {}).ok()
    assert service.check().returncode == 0
    owner = service.get("/node").ok()["owner"]
    with dockerd.client() as client:
        root = Path(client.info()["DockerRootDir"])
        for name, labels in (("bar-1", {LABEL_OWNER: owner}), ("foo-9", {LABEL_OWNER: "other"})):
            client.containers.run(IMAGE, ["sleep", "600"], name=name, labels=labels, detach=True)
        client.volumes.create("bar-2", labels={LABEL_OWNER: owner})
    (root / "gpuledger-snapshots" / owner / "bar-1-op" / "diff").mkdir(parents=True)
    (service.data_dir / "volumes" / "bar.img").write_bytes(bytes(4096))

    told = ["container bar-1", "volume bar-2", "system disk bar-1-op", "volume disk bar"]
    checked = service.check()
    assert checked.returncode == 1
    assert all(what in checked.stdout for what in told), checked.stdout
    assert checked.stdout.count("see: gpuledger orphans") == len(told)
    assert "foo" not in checked.stdout
    would = service.cli("orphans", "remove", "--dry-run").stdout.splitlines()
    assert would == [f"{what} would be removed" for what in told]
    removed = service.cli("orphans", "remove").stdout.splitlines()
    assert removed == [f"{what} is removed" for what in told]
    assert service.cli("orphans").stdout == "no orphans\n"
    assert service.check().returncode == 0
    with dockerd.client() as client:
        left = {container.name for container in client.containers.list(all=True)}
    assert left == {"foo-2", "foo-9"}
    history = service.get("/operations?limit=4").ok()["operations"]
    assert {(one["verb"], one["kind"], one["state"]) for one in history} == {
        ("remove", "orphan", "succeeded")
    }
