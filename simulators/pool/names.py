"""Names of the simulated miners at the pool: ACCOUNT.SITE.SLOT, as their own pool settings have them."""

from simulators.settings import WorldConfig


def worker_name(account: str, site: str, slot: int) -> str:
    """What a miner works under.

    >>> worker_name("hcp", "tx-1", 17)
    'hcp.tx-1.17'
    """
    return f"{account}.{site}.{slot}"


class MinerNames:
    """Which names are those of simulated miners."""

    def __init__(self, config: WorldConfig) -> None:
        self._account = config.protocols.pool.account
        self._spans = {
            site.site: [range(one.first_slot, one.end_slot) for one in site.groups if one.kind == "ASIC"]
            for site in config.sites
        }

    def find(self, name: str) -> tuple[str, int] | None:
        """Site and slot of a simulated miner's name; None: it is nobody's here."""
        account, _, rest = name.partition(".")
        site, _, slot = rest.rpartition(".")
        if account != self._account or not slot.isdecimal() or len(slot) > 9 or slot != str(int(slot)):
            return None
        number = int(slot)
        return (site, number) if any(number in span for span in self._spans.get(site, ())) else None
