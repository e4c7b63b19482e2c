"""Mathematics of activation functions: operators, search spaces, candidates and their programs.

Names that need JAX are loaded when they are first used, so that looking at text, tokens and
formulas costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .candidate import Candidate as Candidate
from .candidate import CoreUnit as CoreUnit
from .canonical import canonical as canonical
from .catalogue import CATALOGUE as CATALOGUE
from .catalogue import KnownFunction as KnownFunction
from .catalogue import known_function as known_function
from .formula import formula as formula
from .formula import latex as latex
from .formula import operator_formula as operator_formula
from .operator import Notation as Notation
from .operator import Operator as Operator
from .operator import Param as Param
from .operator_decorator import operator as operator
from .operator_set import OperatorSet as OperatorSet
from .operator_source import OperatorSetError as OperatorSetError
from .operator_source import OperatorSource as OperatorSource
from .operator_source import read_source as read_source
from .paper import PAPER as PAPER
from .program import Occurrence as Occurrence
from .program import OperatorTable as OperatorTable
from .program import Program as Program
from .space import Decision as Decision
from .space import SearchSpace as SearchSpace
from .text import ExpressionError as ExpressionError
from .text import parse as parse

if TYPE_CHECKING:
    from .activation import ActivationForm as ActivationForm
    from .activation import SpecialisedForm as SpecialisedForm
    from .activation import TracedForm as TracedForm
    from .census import Census as Census
    from .census import take_census as take_census
    from .export import ExportError as ExportError
    from .export import to_source as to_source
    from .fingerprint import FingerprintIndex as FingerprintIndex
    from .fingerprint import fingerprint_of as fingerprint_of
    from .naming import KnownNames as KnownNames
    from .operator_check import check_operators as check_operators
    from .preflight import run_preflight as run_preflight
    from .probe import Prober as Prober

_LAZY = {
    "ActivationForm": "activation",
    "SpecialisedForm": "activation",
    "TracedForm": "activation",
    "Census": "census",
    "take_census": "census",
    "ExportError": "export",
    "to_source": "export",
    "FingerprintIndex": "fingerprint",
    "fingerprint_of": "fingerprint",
    "KnownNames": "naming",
    "check_operators": "operator_check",
    "run_preflight": "preflight",
    "Prober": "probe",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(f".{_LAZY[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
