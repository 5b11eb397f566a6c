"""How large the loads are: whole, or a tenth of it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Scale:
    """How much of each load.

    Attributes:
        quick: A tenth of the load: shows that everything works, its figures are rough.
    """

    quick: bool

    def of(self, whole: int, quick: int | None = None) -> int:
        """A number of tasks, seconds or agents: the whole one, or a tenth (or what ``quick`` says)."""
        if not self.quick:
            return whole
        return max(1, whole // 10) if quick is None else quick

    @property
    def rounds(self) -> int:
        """How often a rate is taken."""
        return 1 if self.quick else 3
