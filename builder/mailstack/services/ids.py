"""User and group ids."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Ids:
    """The same in every image: packages would give clashing ones, and volumes outlive images."""

    sockets: int = 900  # the group that may connect to the milter and policy sockets
    postfix: int = 901
    postdrop: int = 902
    opendkim: int = 903
    policyd_spf: int = 904
    resolver: int = 905
    dmarc: int = 907
    postsrsd: int = 908
    world: int = 906  # what stands in for the Internet when stacks are tried out
    vmail: int = 5000  # the mailboxes' owner, as Dovecot's documentation has it


IDS = Ids()
