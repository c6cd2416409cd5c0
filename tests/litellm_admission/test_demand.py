"""What a request to LiteLLM may cost at worst."""

from __future__ import annotations

import pytest

from neev_provider.litellm_demand import demand_of

ENTRY = {
    "litellm_params": {"model": "text-completion-openai/house"},
    "model_info": {"input_cost_per_token": 1e-6, "output_cost_per_token": 2e-6},
}


@pytest.mark.parametrize(
    ("fields", "choices"),
    [
        ({"prompt": "a"}, 1),
        ({"prompt": "a", "n": 3}, 3),
        ({"prompt": "a", "n": 0}, 1),
        ({"prompt": "a", "n": 2, "best_of": 5}, 5),
        ({"prompt": ["a", "b", "c"]}, 3),
        ({"prompt": ["a", "b"], "n": 4}, 8),
        ({"prompt": [1, 2, 3]}, 1),
        ({"prompt": [[1, 2], [3]]}, 2),
        ({"prompt": []}, 1),
        ({"messages": [{"role": "user", "content": "a"}], "n": "3"}, 1),
    ],
)
def test_every_answer_that_is_produced_is_reserved_for(fields, choices):
    demand = demand_of({"model": "house", "max_tokens": 10, **fields}, "atext_completion", [ENTRY])
    assert (demand.choices, demand.max_tokens, demand.completion_nanos) == (choices, 10, 2000)
