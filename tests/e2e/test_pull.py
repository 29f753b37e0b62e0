"""An image that is not there is pulled, and its way is told."""

from tests.kit.registry import Registry
from tests.kit.service_process import ServiceProcess


def test_an_image_that_is_not_there_is_pulled(service: ServiceProcess) -> None:
    with Registry() as registry:
        assert service.run("foo", imageName=registry.image).ok() == {"name": "foo-1"}
        assert service.shell("foo", "echo here") == "here\n"


def test_the_progress_of_a_pull_is_told(service: ServiceProcess) -> None:
    with Registry(seconds=4.0) as registry:
        body = {"imageName": registry.image, "replicaSetName": "foo", "gpuCount": 2}
        accepted = service.call("POST", "/replicaSet", body, {"Prefer": "respond-async"})
        operation_id = accepted.ok()["operationId"]
        seen: list[tuple[int, int]] = []
        while (operation := service.get(f"/operations/{operation_id}").ok())["state"] == "running":
            if (progress := operation["progress"]) is not None:
                seen.append((progress["doneBytes"], progress["totalBytes"]))
        assert operation["state"] == "succeeded", operation
        assert seen, "no progress was told"
        assert all(0 < done <= total for done, total in seen)
        assert seen == sorted(seen)


def test_an_image_that_is_nowhere_gives_everything_back(service: ServiceProcess) -> None:
    with Registry() as registry:
        nowhere = registry.image.replace("away", "nowhere")
        refused = service.run("foo", 2, imageName=nowhere, containerPorts=["80"])
    assert refused.code == 1004
    assert nowhere in refused.msg
    assert service.leases() == (0, 0)
