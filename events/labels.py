"""The labels that every Docker object of ours carries.

The ledger names what is desired; these labels tie a Docker object back to the record that asked
for it. They make two things safe: an effect done twice is an effect done once (same owner, same
effect: adopt it), and nobody else's container or volume is ever touched (other owner: leave it).
"""

LABEL_OWNER = "gpuledger.owner"
"""The installation that made the object; two installations may share one engine."""

LABEL_NODE = "gpuledger.node"
"""The node whose leases the object holds."""

LABEL_NAME = "gpuledger.name"
"""The replica set or volume, without its revision."""

LABEL_REVISION = "gpuledger.revision"
"""The revision, decimal, starting with 1."""

LABEL_KEPT_BY = "gpuledger.kept-by"
"""On images that kept system disks are: the installation that keeps them. A container made of one
inherits it, so it claims nothing but the image."""

LABEL_DEBUG_OF = "gpuledger.debug-of"
"""On containers of debug copies: the version that they are copies of, such as foo@3."""

LABEL_EFFECT = "gpuledger.effect"
"""The id of the effect that made the object; stable over retries and restarts."""
