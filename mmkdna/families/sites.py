"""The convs that a KernelDNA ``conv_cfg`` built, and where they are."""

from collections.abc import Iterable, Mapping
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
    sites: list[ConvSite] = []
    seen: set[int] = set()

    def visit(
        module: nn.Module,
        name: str,
        containers: tuple[tuple[str, int], ...],
        owned: Mapping[Policy, str],
    ) -> None:
        if id(module) in seen:
            return
        seen.add(id(module))
        policy = getattr(module, 'policy', None)
        if isinstance(policy, Policy) and isinstance(
            module, (nn.Conv2d, KernelDNALayer)
        ):
            sites.append(
                ConvSite(
                    name, module, policy, containers, owned.get(policy, '')
                )
            )
            return
        if isinstance(module, (nn.Sequential, nn.ModuleList)):
            containers = ((name, id(module)), *containers)
        # The outermost module with this conv_cfg got it from the config, the
        # ones below it got it passed on.
        if id(module) in policies and policies[id(module)] not in owned:
            owned = {**owned, policies[id(module)]: name}
        for key, child in module.named_children():
            visit(child, f'{name}.{key}' if name else key, containers, owned)

    visit(model, '', (), {})
    return sites
