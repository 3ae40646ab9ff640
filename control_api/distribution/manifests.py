"""What a node is told: its manifest, and the deletions in it. Every change of a manifest is a new revision."""

from sqlmodel.ext.asyncio.session import AsyncSession

from control_api.catalogue.models import Model
from control_api.distribution import repository
from control_api.distribution.schemas import Manifest, ManifestArtifact, ManifestModel
from control_api.fleet.models import Node
from control_api.fleet.states import Admission


async def manifest_of(session: AsyncSession, node: Node, *, store_id: str, memory_reserve_bytes: int) -> Manifest:
    """Return the manifest of a node; one that is not admitted yet holds nothing."""
    rows = [] if node.admission is Admission.PENDING else await repository.manifest_rows(session, node.id)
    models: dict[str, ManifestModel] = {}
    for assignment, model, artifact in rows:
        entry = models.setdefault(
            model.id,
            ManifestModel(
                id=model.id,
                generation=assignment.generation,
                residency=assignment.residency,
                engine=model.engine or None,
                required_memory_bytes=model.required_memory_bytes,
                params=model.params | {"gpu_uuids": assignment.gpu_uuids},
                artifacts=[],
            ),
        )
        entry.artifacts.append(ManifestArtifact(name=artifact.name, size=artifact.size, sha256=artifact.sha256))
    return Manifest(
        store_id=store_id,
        revision=node.manifest_revision,
        admission=node.admission,
        memory_reserve_bytes=memory_reserve_bytes,
        models=list(models.values()),
        remove=await repository.removals(session, node.id),
    )


async def take_off_all_nodes(session: AsyncSession, model: Model) -> list[Node]:
    """Remove a model's assignments and let its nodes delete its files, except those that another of their models needs.

    Returns the nodes that had it.
    """
    nodes = await repository.nodes_assigned(session, model.id)
    digests = await repository.digests_of(session, model.id)
    await repository.delete_assignments(session, model.id)
    for node in nodes:
        revision = await repository.bump_manifest(session, node)
        unneeded = digests - await repository.digests_needed(session, node.id)
        await repository.add_removals(session, node.id, unneeded, revision)
    return nodes


async def note_applied(session: AsyncSession, node: Node, applied_revision: int) -> None:
    """Take note of the manifest revision that a node says it has applied.

    A revision that was never given out means that this store is a restored backup. Its deletions are of another time and are
    dropped, and the count goes on above the node's, so that every revision from now on is different to it.
    """
    await repository.forget_removals(session, node.id, applied_revision)
    if applied_revision > node.manifest_revision:
        await repository.raise_manifest(session, node, applied_revision + 1)
