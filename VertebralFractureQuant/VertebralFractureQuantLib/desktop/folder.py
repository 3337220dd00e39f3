"""A study's folder in the Data module: the vertebrae, the straightened volume and what else belongs to the study."""

from __future__ import annotations

from typing import Any

import slicer
import vtk

from ..scene.study import StudyScene

FOLDER = "VertebralFractureQuant.folder"  # the attribute of the folder's item
LABELLED = "VertebralFractureQuant.labelled"  # the attribute of nodes that belong to an annotation


def arrange(study: StudyScene, case: str, kind: str = "1") -> None:
    """Put the nodes of an open study into the folder of its case, vertebrae in cranial order; the CT stays.

    `kind` tells the folder from that of a study that another face shows.
    """
    tree = _tree()
    if tree is None:
        return
    folder = next((f for f in _folders(tree) if tree.GetItemAttribute(f, FOLDER) == kind), 0) or tree.CreateFolderItem(
        tree.GetSceneItemID(), case
    )
    tree.SetItemName(folder, case)
    tree.SetItemAttribute(folder, FOLDER, kind)
    _swept(tree, folder)
    vertebrae = [study.vertebrae[i].node for i in study.order]
    for node in (*vertebrae, *(node for role, node in study.nodes.items() if role != "ct")):
        if node.GetHideFromEditors() or node.GetScene() is None:
            continue
        item = tree.GetItemByDataNode(node)
        if not item:
            tree.CreateItem(folder, node)
        elif tree.GetItemParent(item) != folder:
            tree.SetItemParent(item, folder)


def tidy() -> None:
    """Remove folders whose study was closed: those without nodes."""
    tree = _tree()
    for folder in _folders(tree) if tree else ():
        if not _swept(tree, folder):
            tree.RemoveItem(folder, False, True)


def _swept(tree: Any, folder: int) -> list[int]:
    """Remove the items of nodes that have left the scene, as Slicer itself does, and return the other items."""
    items = _children(tree, folder)
    here = [i for i in items if tree.GetItemDataNode(i) is not None and tree.GetItemDataNode(i).GetScene() is not None]
    for item in set(items) - set(here):
        tree.RemoveItem(item, False, False)
    return here


def _tree() -> Any:
    """Return the scene's subject hierarchy; None while the scene is closed or loaded."""
    scene = slicer.mrmlScene
    if scene.IsClosing() or scene.IsImporting():
        return None
    return slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)


def _folders(tree: Any) -> list[int]:
    return [item for item in _children(tree, tree.GetSceneItemID()) if tree.HasItemAttribute(item, FOLDER)]


def _children(tree: Any, item: int) -> list[int]:
    items = vtk.vtkIdList()
    tree.GetItemChildren(item, items)
    return [items.GetId(i) for i in range(items.GetNumberOfIds())]
