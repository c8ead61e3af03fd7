"""The services of a stack as values: what each container is, said once.

A service is an entry of SERVICES and a folder of images/; compose.yaml, Postfix's image, the checks and the overrides
follow from these.
"""

from mailstack.services import dmarc, opendkim, policyd_spf, postfix, resolver

SERVICES = (postfix.SERVICE, opendkim.SERVICE, policyd_spf.SERVICE, dmarc.SERVICE, resolver.SERVICE)
SERVICE_NAMES = tuple(one.name for one in SERVICES)
