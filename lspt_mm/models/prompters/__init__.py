"""Prompt methods, one file each: only the maths of the paper.

Importing a method's module registers it; every registered class is exported under its name.
"""

from lspt_mm.models.prompters.approximated import ApproximatedPrompt
from lspt_mm.models.prompters.apt import APT
from lspt_mm.models.prompters.base import Prompter
from lspt_mm.models.prompters.bilinear import BilinearPrompt
from lspt_mm.models.prompters.condensation import CondensedPrompt
from lspt_mm.models.prompters.cvpt import CVPT
from lspt_mm.models.prompters.davpt import DAVPT
from lspt_mm.models.prompters.e2vpt import E2VPT
from lspt_mm.models.prompters.gated import GatedPrompt
from lspt_mm.models.prompters.lspt import LSPT
from lspt_mm.models.prompters.nsp2 import NSP2
from lspt_mm.models.prompters.pae import PAE
from lspt_mm.models.prompters.prototype import PrototypePrompt
from lspt_mm.models.prompters.provpt import PROVPT
from lspt_mm.models.prompters.rein import Rein
from lspt_mm.models.prompters.spt import SelfPrompt
from lspt_mm.models.prompters.vapt import VAPT
from lspt_mm.models.prompters.vfpt import FourierPrompt
from lspt_mm.models.prompters.vipamin import VIPAMIN
from lspt_mm.models.prompters.vpt import VPT
from lspt_mm.registry import PROMPTERS

__all__ = ['Prompter', *(name for name in PROMPTERS.module_dict if name in globals())]
