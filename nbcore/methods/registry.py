"""The methods that pre-train from image-report pairs, by name."""

from typing import NamedTuple

from nbcore.methods import convirt, gloria, med_unic, mflag, mgca
from nbcore.methods.pairs import PairConfig, PairMethod


class MethodClasses(NamedTuple):
    """The two classes of a method."""

    config: type[PairConfig]
    method: type[PairMethod]


METHODS = {
    "mgca": MethodClasses(mgca.Config, mgca.Mgca),
    "mflag": MethodClasses(mflag.Config, mflag.MFlag),
    "med_unic": MethodClasses(med_unic.Config, med_unic.MedUnic),
    "convirt": MethodClasses(convirt.Config, convirt.Convirt),
    "gloria": MethodClasses(gloria.Config, gloria.Gloria),
}
