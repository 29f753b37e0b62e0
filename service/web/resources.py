"""Routes of what is lent, GPUs and host ports, and of the node that lends it."""

from aiohttp import web

from service.web import gpu_rows
from service.web import schemas_responses as responses
from service.web.context import CONTEXT
from service.web.envelope import answer
from service.web.routes import API, Route

_TAG = "Resources"


async def _gpus(request: web.Request) -> web.Response:
    context = request.app[CONTEXT]
    units = await context.reads.gpus()
    simulated = context.node().gpu_runtime == "simulated"
    return answer(responses.GpusData(gpu_rows.usage(units), gpu_rows.details(units, simulated)))


async def _ports(request: web.Request) -> web.Response:
    context = request.app[CONTEXT]
    first, last = context.port_first, context.port_last
    leases = await context.reads.ports()
    # A lease can lie outside: the range may have been another one when it was made.
    taken = sum(1 for lease in leases if first <= lease.host_port <= last)
    return answer(
        responses.PortsData(
            responses.PortSet(
                start_port=first,
                end_port=last,
                available_count=last - first + 1 - taken,
                used_port_set={str(lease.host_port): {} for lease in leases},
                details=[
                    responses.PortDetail(
                        lease.host_port,
                        lease.container_port,
                        gpu_rows.holder(lease.holder, lease.revisions) or lease.holder,
                    )
                    for lease in leases
                ],
            )
        )
    )


async def _node(request: web.Request) -> web.Response:
    context = request.app[CONTEXT]
    facts = context.node()
    return answer(
        responses.NodeData(
            node=facts.node,
            owner=facts.owner,
            version=facts.version,
            versions=facts.versions,
            gpu_runtime=facts.gpu_runtime,
            gpu_detail=facts.gpu_detail,
            disk_detail=facts.disk_detail,
            volume_detail=facts.volume_detail,
            gpus=gpu_rows.details(await context.reads.gpus(), facts.gpu_runtime == "simulated"),
        )
    )


ROUTES = (
    Route(
        *("GET", f"{API}/resources/gpus", _gpus, "Show the GPUs and who has them", _TAG),
        data=responses.GpusData,
    ),
    Route(
        *("GET", f"{API}/resources/ports", _ports, "Show the host ports in use", _TAG),
        data=responses.PortsData,
    ),
    Route(
        *("GET", f"{API}/node", _node, "Show this installation", _TAG),
        data=responses.NodeData,
        now="it is the installation as it is now; resources/gpus has a past",
    ),
)
