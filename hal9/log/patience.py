"""How long a fetch may wait at the broker, and for how much, by what has come lately. Pure."""

RESPONSE_BYTES = 1024 * 1024
"""Of one fetch: some thousand records, so that handling them holds up nothing else for long."""
BUSY_RECORDS_S = 400
"""Above this rate waiting a little for company halves the CPU; below it, an answer is wanted at once."""
BUSY_WAIT_MS = 3
IDLE_WAIT_MS = 500
_WINDOW_S = 0.1


class Patience:
    """Of one reader. With `slice_ms` records may always wait so long for company: for who is in no hurry."""

    def __init__(self, slice_ms: int = 0) -> None:
        self._slice_ms = slice_ms
        self._counted, self._since_s, self._rate = 0, 0.0, 0.0

    @property
    def busy(self) -> bool:
        """Whether much has come lately."""
        return self._rate > BUSY_RECORDS_S

    def came(self, records: int) -> None:
        """So many came."""
        self._counted += records

    def terms(self, now_s: float) -> tuple[int, int]:
        """How long the broker may wait, in ms, and for how many bytes; `now_s` is of any clock that never goes back."""
        elapsed_s = now_s - self._since_s
        if elapsed_s >= _WINDOW_S:
            self._rate = self._counted / elapsed_s
            self._counted, self._since_s = 0, now_s
        if self._slice_ms:
            return self._slice_ms, RESPONSE_BYTES
        return (BUSY_WAIT_MS, RESPONSE_BYTES) if self.busy else (IDLE_WAIT_MS, 1)
