"""Filters put into the form from which the shortest statement follows, without a change of what they select.

* The conditions of an arm that a field does not equal some values become one.
* The conditions of an arm on one status become one set of statuses; an arm that allows none goes.
* Arms that differ only in the value that one field equals become one arm with all these values. So an OR of ten
  thousand ids is one test of an array, and what all arms share stands outside the OR, where an index can be used.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ripieno.domain.catalogue import Field, Kind
from ripieno.domain.queries import Operator, Test, Tests, Value


class Term(NamedTuple):
    """One condition of an arm.

    Attributes:
        values: The value of the condition; of EQUAL any number, of which the field equals one, and of NOT_EQUAL any
            number, of which it equals none.
    """

    field: Field
    operator: Operator
    values: tuple[Value, ...]


Arm = tuple[Term, ...]

#: The filter that selects everything: one arm without conditions. A filter without arms selects nothing.
EVERYTHING: tuple[Arm, ...] = ((),)

#: Fields by which arms are merged: a filter may name thousands, and each is a turn through all arms.
_MOST_MERGED = 8
_ALIKE = (Operator.EQUAL, Operator.NOT_EQUAL)


def simplified(any_of: Tests) -> tuple[Arm, ...]:
    """Return the arms of a filter, as few as possible."""
    if not any_of:
        return EVERYTHING
    arms = [arm for tests in any_of if (arm := _of_statuses(_terms(tests))) is not None]
    arms = list(dict.fromkeys(arms))
    if () in arms:
        return EVERYTHING
    equalled = Counter(term.field for arm in arms for term in arm if term.operator is Operator.EQUAL)
    for field, count in equalled.most_common(_MOST_MERGED):
        if count > 1 and len(arms) > 1:
            arms = _merged(arms, field)
    return tuple(arms)


def shared(arms: Sequence[Arm]) -> Arm:
    """Return the terms that all arms have."""
    if not arms:
        return ()
    others = [frozenset(arm) for arm in arms[1:]]
    return tuple(term for term in arms[0] if all(term in other for other in others))


def _terms(tests: Iterable[Test]) -> list[Term]:
    """Return the conditions of an arm, each once."""
    every = (Term(test.field, test.operator, () if test.value is None else (test.value,)) for test in tests)
    terms, unequal = list[Term](), dict[Field, dict[Value, None]]()
    for term in dict.fromkeys(every):
        if term.operator is Operator.NOT_EQUAL:
            unequal.setdefault(term.field, {}).update(dict.fromkeys(term.values))
        else:
            terms.append(term)
    return [*terms, *(Term(field, Operator.NOT_EQUAL, tuple(values)) for field, values in unequal.items())]


def _of_statuses(terms: list[Term]) -> Arm | None:
    """Join the terms of an arm on one status; None if no status is left."""
    others = [term for term in terms if term.field.kind is not Kind.STATUS or term.operator not in _ALIKE]
    for field in dict.fromkeys(term.field for term in terms if term.field.kind is Kind.STATUS):
        left = {int(status) for status in field.statuses}
        for term in terms:
            if term.field == field and term.operator in _ALIKE:
                named = {int(value) for value in term.values if isinstance(value, int)}
                left = left & named if term.operator is Operator.EQUAL else left - named
        if not left:
            return None
        if len(left) < len(field.statuses):
            others.append(Term(field, Operator.EQUAL, tuple(sorted(left))))
    return tuple(others)


def _merged(arms: list[Arm], field: Field) -> list[Arm]:
    """Join arms that differ only in what one field equals."""
    whole: list[Arm] = []
    values: dict[frozenset[Term], tuple[Arm, dict[Value, None]]] = {}
    for arm in arms:
        own = [term for term in arm if term.field == field and term.operator is Operator.EQUAL]
        if len(own) != 1:
            whole.append(arm)
            continue
        rest = tuple(term for term in arm if term != own[0])
        values.setdefault(frozenset(rest), (rest, {}))[1].update(dict.fromkeys(own[0].values))
    joined = [(*rest, Term(field, Operator.EQUAL, tuple(each))) for rest, each in values.values()]
    return [*whole, *joined]
