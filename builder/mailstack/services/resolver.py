"""Unbound, which asks and validates for all others."""

from mailstack.services.ids import IDS
from mailstack.services.model import Limits, Service

SERVICE = Service(
    "resolver",
    IDS.resolver,
    networks=("edge", "lookup", "inner"),
    limits=Limits(256, 64),
    grace=10,
    sysctls={"net.ipv4.ip_unprivileged_port_start": 0},
    overridable={"unbound.conf": "etc/unbound/mailstack.conf"},
)
