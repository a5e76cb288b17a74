"""Which lesson a plan's task is."""

from services.trainer.core.lessons.anomaly import Anomaly
from services.trainer.core.lessons.lesson import Lesson
from services.trainer.core.lessons.policy import Policy
from services.trainer.core.lessons.ranking import Ranking
from services.trainer.core.lessons.supervised import Supervised
from services.trainer.core.plan import Plan

_LESSONS: dict[str, type[Lesson]] = {"regression": Supervised, "classification": Supervised, "anomaly": Anomaly,
                                     "ranking": Ranking, "policy": Policy}


def lesson_of(plan: Plan) -> Lesson:
    return _LESSONS[plan.task](plan)
