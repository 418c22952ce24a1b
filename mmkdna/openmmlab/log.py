"""Log messages: which families formed, and why others did not."""

import logging
from collections import Counter
from collections.abc import Container, Sequence

from mmengine.logging import print_log
from torch import nn

from ..families.sites import Site, outwards, site_of, sites, walk
from ..layers import Settings
from ..report import report


def tell(
    model: nn.Module, formed: bool = False, asked: Container[int] = ()
) -> None:
    """Log which families formed in a complete model, and which did not.

    Args:
        model: A model with marked layers.
        formed: Whether families formed in this build.
        asked: Ids of the modules whose configs have settings.
    """
    if formed:
        print_log(str(report(model)), 'current')
    owners = [n for n, module in model.named_modules() if id(module) in asked]
    for (name, settings), misses in near_misses(sites(model), owners).items():
        warn(
            f'No family forms in {name or type(model).__name__} under '
            f'the settings {settings}: its layers stay plain. Nearest misses: '
            f'{misses}{_unmarked(model, name, settings)}'
        )


def warn(message: str) -> None:
    print_log(message, 'current', logging.WARNING)


def near_misses(
    found: Sequence[Site], owners: Sequence[str] = ()
) -> dict[tuple[str, Settings], str]:
    """Why settings formed no family, by owner and settings.

    Args:
        found: The marked layers.
        owners: Names of the modules whose configs have settings, outermost
            first; a layer outside of them belongs to the model, ``''``.
    """
    groups: dict[tuple[str, Settings], list[Site]] = {}
    for site in found:
        around = {site.name, *outwards(site.name)}
        owner = next((name for name in owners if name in around), '')
        groups.setdefault((owner, site.kind.settings), []).append(site)
    return {
        key: '; '.join(_nearest(group))
        for key, group in groups.items()
        if not any(site.is_member for site in group)
    }


def _nearest(found: Sequence[Site], most: int = 3) -> list[str]:
    kinds = Counter(site.kind for site in found if not site.obstacles())

    def reason(site: Site) -> str:
        size, count = site.kind.settings.family_size, kinds[site.kind]
        if site.kind.settings.families is not None:
            return 'none of the names in families'
        if obstacles := site.obstacles():
            return ', '.join(obstacles)
        if count == 1:
            return 'the only one of its shape'
        if isinstance(size, int) and count < size:
            return f'fewer than family_size={size} of its shape'
        return (
            f'one of {count} of its shape, but no nn.Sequential or '
            'nn.ModuleList holds enough of them; list them in families=[[...]]'
        )

    found = sorted(found, key=lambda s: -min(s.kind.shape[:2]))
    found = sorted(found, key=lambda s: len(s.obstacles()))[:most]
    return [f'{site.name or "the layer"}: {reason(site)}' for site in found]


def _unmarked(model: nn.Module, name: str, settings: Settings) -> str:
    """Text about layers that could share but have no settings."""
    owner, prefix = model.get_submodule(name), f'{name}.' if name else ''
    if names := _could_share(owner, settings):
        return (
            f'. {len(names)} other convolutions could share, such as {prefix}'
            f'{names[-1]}, but do not get the conv_cfg: kernel_dna=dict(...) '
            'reaches them'
        )
    linears = [m for m in owner.modules() if type(m) is nn.Linear]
    if len(linears) > 1 and not any('kernel_dna' in vars(m) for m in linears):
        return (
            f'. It has {len(linears)} linear layers: '
            'kernel_dna=dict(linear=True, kernel_sizes=(1,)) reaches them'
        )
    return ''


def _could_share(model: nn.Module, settings: Settings) -> list[str]:
    """Names of unmarked convolutions that the rule would make share."""
    convs = [
        site_of(name, layer, around, settings)
        for name, layer, around in walk(model)
        if type(layer) is nn.Conv2d and 'kernel_dna' not in vars(layer)
    ]
    found = [site for site in convs if not site.obstacles()]
    held = Counter((s, site.kind) for site in found for s in site.stages)
    return [
        site.name
        for site in found
        if any(held[stage, site.kind] > 1 for stage in site.stages)
    ]
