"""The convs that a KernelDNA ``conv_cfg`` built, and where they are."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from torch import nn

from ..layers import KernelDNALayer, Policy

Owner = tuple[nn.Module, Policy]
"""A module and the policy of the ``conv_cfg`` that it got."""


@dataclass(frozen=True)
class ConvSite:
    """A conv that a KernelDNA ``conv_cfg`` built, and where it is.

    Args:
        name: Name in the model.
        conv: Ours, or the plain conv that the rule can never share.
        policy: What its ``conv_cfg`` says.
        containers: The sequences around it, innermost first, as name and id.
        owner: Name in the model of the module that got the ``conv_cfg``.
    """

    name: str
    conv: nn.Conv2d | KernelDNALayer
    policy: Policy
    containers: tuple[tuple[str, int], ...]
    owner: str

    @property
    def kind(self) -> tuple:
        """Equal for convs that may share a kernel."""
        return (
            self.policy,
            type(self.conv),
            self.conv.in_channels,
            self.conv.out_channels,
            self.conv.kernel_size,
            self.conv.groups,
        )

    @property
    def channels(self) -> int:
        """What ``min_channels`` is about."""
        return self.policy.channels(self.conv)

    @property
    def is_linked(self) -> bool:
        return getattr(self.conv, 'role', 'free') != 'free'

    @property
    def owns_no_weight(self) -> bool:
        """Whether the weight is made of other tensors (spectral norm)."""
        return 'weight' not in self.conv._parameters

    def obstacles(self) -> list[str]:
        """Why the rule leaves it out; empty if it is eligible."""
        found = self.policy.obstacles(self.conv)
        if self.owns_no_weight:
            found.append('its weight is parametrised')
        return found


def conv_sites(
    model: nn.Module, owners: Iterable[Owner] = ()
) -> list[ConvSite]:
    """Every conv that a KernelDNA ``conv_cfg`` built, in order of depth.

    Args:
        model: The module tree.
        owners: Modules that got a ``conv_cfg``; a conv whose policy none of
            them got belongs to the model itself.
    """
    policies = {id(module): policy for module, policy in owners}
    sites = []
    for name, module, around in walk(model):
        policy = getattr(module, 'policy', None)
        if isinstance(policy, Policy) and isinstance(
            module, (nn.Conv2d, KernelDNALayer)
        ):
            # The outermost module with this conv_cfg got it from the config,
            # the ones below it got it passed on.
            owner = next(
                (
                    outer
                    for outer, parent in reversed(around)
                    if policies.get(id(parent)) == policy
                ),
                '',
            )
            containers = tuple(
                (outer, id(parent))
                for outer, parent in around
                if is_container(parent)
            )
            sites.append(ConvSite(name, module, policy, containers, owner))
    return sites


def is_container(module: nn.Module) -> bool:
    """Whether a module is a sequence of others, as a stage is."""
    return isinstance(module, (nn.Sequential, nn.ModuleList))


def walk(
    model: nn.Module,
) -> Iterator[tuple[str, nn.Module, tuple[tuple[str, nn.Module], ...]]]:
    """Each module once: its name, itself, and the modules around it.

    In order of depth; those around it innermost first, by name.
    """
    seen: set[int] = set()
    ahead: list[tuple[str, nn.Module, tuple[tuple[str, nn.Module], ...]]]
    ahead = [('', model, ())]
    while ahead:
        name, module, around = ahead.pop()
        if id(module) in seen:
            continue
        seen.add(id(module))
        yield name, module, around
        prefix = f'{name}.' if name else ''
        around = ((name, module), *around)
        children = list(module.named_children())
        for key, child in reversed(children):
            ahead.append((prefix + key, child, around))
