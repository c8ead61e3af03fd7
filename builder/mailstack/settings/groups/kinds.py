"""What the groups share: how a list is read, and what a group is."""

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict

from mailstack.values import network, servers
from mailstack.values.tokens import split_commas, split_lines, split_list, whole_number


def _unique(values: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(dict.fromkeys(values))


TOKENS = (BeforeValidator(split_list), AfterValidator(_unique))
COMMA_TOKENS = (BeforeValidator(split_commas),)
LINE_TOKENS = (BeforeValidator(split_lines),)

SkippedNetworks = Annotated[
    tuple[
        Annotated[
            network.Network, BeforeValidator(network.narrow_network("would exempt almost every client from the check"))
        ],
        ...,
    ],
    *TOKENS,
]


Port = Annotated[int, BeforeValidator(whole_number(0, servers.MAX_PORT, "a port"))]


class Group(BaseModel):
    """Some of the settings; only together are they validated."""

    model_config = ConfigDict(defer_build=True)
