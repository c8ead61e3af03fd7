"""The services of a stack as values: what each container is, said once.

A service is an entry of SERVICES or OPTIONAL and a folder of images/; compose.yaml, Postfix's image, the checks and the
overrides follow from these.
"""

from mailstack.services import dmarc, opendkim, policyd_spf, postfix, postsrsd, resolver

SERVICES = (postfix.SERVICE, opendkim.SERVICE, policyd_spf.SERVICE, dmarc.SERVICE, resolver.SERVICE)
# What only some sites need.
OPTIONAL = (postsrsd.SERVICE,)
SERVICE_NAMES = tuple(one.name for one in SERVICES)
ALL_NAMES = (*SERVICE_NAMES, *(one.name for one in OPTIONAL))
# By name, whatever a site uses of them; and what a backup takes.
VOLUMES = {one.name: one for service in (*SERVICES, *OPTIONAL) for one in (*service.all_volumes, postfix.MAIL)}
KEPT = {name: one.kept for name, one in VOLUMES.items() if one.kept}
