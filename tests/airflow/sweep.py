"""Schemathesis over the whole OpenAPI of the HTTP door on a running platform, and what every answer has to be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import httpx
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import CHECKS, not_a_server_error
from schemathesis.schemas import APIOperation

CHECKED = ("status_code_conformance", "content_type_conformance", "response_schema_conformance")


@dataclass
class Sweep:
    """What came of it. ``codes``: of all answers; ``texts``: everything that was answered, for a look at secrets."""

    url: str
    tokens: dict[str, str]
    codes: Counter[int] = field(default_factory=Counter)
    texts: list[str] = field(default_factory=list)

    @property
    def cases(self) -> int:
        """Answers that were not 'too many requests'."""
        return sum(count for code, count in self.codes.items() if code != 429)

    def operations(self) -> list[APIOperation[Any, Any, Any]]:
        """Return every operation of the interface's own description."""
        document = httpx.get(f"{self.url}/openapi.json", headers=self.headers("admin"), timeout=60).json()
        schema = schemathesis.openapi.from_dict(document)
        schema.config.update(base_url=self.url)
        return [found.ok() for found in schema.get_all_operations()]

    def headers(self, user: str | None) -> dict[str, str]:
        return {} if user is None else {"Authorization": f"Bearer {self.tokens[user]}"}

    def run(
        self,
        operation: APIOperation[Any, Any, Any],
        user: str | None,
        examples: int,
        modes: Iterable[GenerationMode],
        expect: int | None = None,
    ) -> None:
        """Send generated requests: none may be a 5xx, each answer must be as described, and ``expect`` if given."""
        checks = [not_a_server_error, *(one for one in CHECKS.get_all() if one.__name__ in CHECKED)]
        for mode in modes:

            @seed(20261125)
            @settings(
                max_examples=examples,
                deadline=None,
                database=None,
                suppress_health_check=list(HealthCheck),
                phases=[Phase.explicit, Phase.generate],
            )
            @given(case=operation.as_strategy(generation_mode=mode))
            def one(case: Any) -> None:
                answer = case.call(headers=self.headers(user), timeout=120)
                self.codes[answer.status_code] += 1
                self.texts.append(answer.text)
                if expect is not None:
                    assert answer.status_code == expect, (case, answer.text)
                elif answer.status_code != 429:
                    case.validate_response(answer, checks=checks)

            try:
                one()
            except Unsatisfiable:  # nothing wrong can be said to an operation without parameters
                if mode is GenerationMode.POSITIVE:
                    raise
