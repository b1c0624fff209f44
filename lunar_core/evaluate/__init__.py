"""Measures whether routing helps: by decisions alone, and by judged answers against a baseline and a shuffled control.

>>> from lunar_core.evaluate import RouteReport
>>> print(RouteReport.measure(["Prove that 7 is prime.", "Write a haiku."]))
"""

from __future__ import annotations

from lunar_core.evaluate.answers import AnswerPlan, acompare_answers, compare_answers
from lunar_core.evaluate.judges import ModelJudge, ScoreJudge, find_judge
from lunar_core.evaluate.pairs import Comparison, Pair, PairedAnswer, Record
from lunar_core.evaluate.prompts import Prompt, read_prompts
from lunar_core.evaluate.report import RouteReport
from lunar_core.evaluate.weights import WeightResult

__all__ = [
    "AnswerPlan",
    "Comparison",
    "ModelJudge",
    "Pair",
    "PairedAnswer",
    "Prompt",
    "Record",
    "RouteReport",
    "ScoreJudge",
    "WeightResult",
    "acompare_answers",
    "compare_answers",
    "find_judge",
    "read_prompts",
]
