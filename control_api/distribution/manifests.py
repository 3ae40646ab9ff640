"""What a node is told: its manifest, and the deletions in it. Every change of a manifest is a new revision."""

from collections import defaultdict
from typing import cast

import structlog
from pydantic import ValidationError
from sqlmodel.ext.asyncio.session import AsyncSession

from control_api.catalogue.models import Artifact, Model
from control_api.distribution import repository
from control_api.distribution.room import Residency
from control_api.distribution.schemas import Manifest, ManifestArtifact, ManifestModel
from control_api.fleet.models import Assignment, Node
from control_api.fleet.states import Admission
from control_api.kit.wire import BELIEVED_COUNTER

log = structlog.get_logger()


async def manifest_of(session: AsyncSession, node: Node, *, store_id: str, memory_reserve_bytes: int) -> Manifest:
    """Return the manifest of a node; one that is not admitted yet holds nothing."""
    rows = [] if node.admission is Admission.PENDING else await repository.manifest_rows(session, node.id)
    files: dict[str, list[Artifact]] = defaultdict(list)
    for _, model, artifact in rows:
        files[model.id].append(artifact)
    wanted = {model.id: (assignment, model) for assignment, model, _ in rows}
    models = [_entry(assignment, model, files[model.id]) for assignment, model in wanted.values()]
    return Manifest(
        store_id=store_id,
        revision=node.manifest_revision,
        admission=node.admission,
        memory_reserve_bytes=memory_reserve_bytes,
        models=[entry for entry in models if entry],
        remove=await repository.removals(session, node.id),
    )


def _entry(assignment: Assignment, model: Model, files: list[Artifact]) -> ManifestModel | None:
    """Return what a node is told of a model, or nothing: some hub's nonsense, registered long ago, is nobody's to fetch."""
    try:
        return ManifestModel(
            id=model.id,
            generation=assignment.generation,
            residency=cast(Residency, assignment.residency),
            engine=model.engine or None,
            required_memory_bytes=model.required_memory_bytes,
            params=model.params | {"gpu_uuids": assignment.gpu_uuids},
            artifacts=[ManifestArtifact(name=file.name, size=file.size, sha256=file.sha256) for file in files],
        )
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        reason = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
        log.error("manifest.model_left_out", node=assignment.node_id, model=model.id, reason=reason)
        return None


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
    if node.manifest_revision < applied_revision < BELIEVED_COUNTER:
        await repository.raise_manifest(session, node, applied_revision + 1)
