"""The services of a stack as values: what each container is, said once.

A service is an entry of SERVICES and a folder of images/; compose.yaml, Postfix's image, the checks and the overrides
follow from these.
"""

from mailstack.services import dmarc, opendkim, policyd_spf, postfix, resolver

SERVICES = (postfix.SERVICE, opendkim.SERVICE, policyd_spf.SERVICE, dmarc.SERVICE, resolver.SERVICE)
SERVICE_NAMES = tuple(one.name for one in SERVICES)
# By name, whatever a site uses of them; and what a backup takes.
VOLUMES = {one.name: one for service in SERVICES for one in (*service.all_volumes, postfix.MAIL)}
KEPT = {name: one.kept for name, one in VOLUMES.items() if one.kept}
