"""A Pipeline is read as a whole: every problem at once, with line, path and remedy."""

from pathlib import Path

import pytest

from lepton.contracts.pipeline import InvalidPipeline, Pipeline, Problem, compatible, from_json, parse
from lepton.contracts.pipeline_blocks import Clean

EXAMPLE = Path(__file__).parents[3] / "examples" / "phishing" / "pipeline.yaml"
HEAD = "apiVersion: lepton/v1\nkind: Pipeline\nmetadata: {name: a}\n"
BASE = """\
apiVersion: lepton/v1
kind: Pipeline
metadata: {name: shop}
events:
  entity: customer
  partitions: 3
  fields:
    price: {type: float, range: [0, 1000], required: true}
    items: {type: int}
    member: {type: bool}
    country: {type: category, categories: [us, no]}
    note: {type: text}
  label: {field: bought, type: bool}
"""


def problems(text: str) -> list[Problem]:
    with pytest.raises(InvalidPipeline) as caught:
        parse(text)
    return caught.value.problems


def only(text: str) -> Problem:
    found = problems(text)
    assert len(found) == 1, [str(problem) for problem in found]
    return found[0]


def test_the_example_is_valid_and_about_forty_lines() -> None:
    text = EXAMPLE.read_text()
    pipeline = parse(text)
    assert pipeline.name == "phishing"
    assert len(pipeline.fields) == 9
    assert pipeline.task == "classification"
    assert len(text.splitlines()) <= 45


def test_defaults_make_a_short_pipeline_whole() -> None:
    pipeline = parse(BASE)
    assert pipeline.model is not None
    assert pipeline.model.family == "logistic_regression"
    assert pipeline.gate is not None
    assert pipeline.gate.metric == "accuracy"
    assert pipeline.watch.quality is not None
    assert pipeline.watch.quality.metric == "accuracy"
    assert pipeline.events.id == "event_id"
    assert pipeline.events.dedupe_window == 100_000
    assert pipeline.serve.stream.results == "records"
    assert (pipeline.partitions, pipeline.label_field, pipeline.label_type) == (3, "bought", "bool")
    assert pipeline.label_categories is None


def test_without_label_there_is_no_model_and_no_task() -> None:
    pipeline = parse(BASE.replace("  label: {field: bought, type: bool}\n", ""))
    assert (pipeline.model, pipeline.gate, pipeline.task, pipeline.label_field) == (None, None, None, None)
    assert pipeline.label_type is None
    assert pipeline.label_categories is None
    assert pipeline.events.entity_member == "customer"


def test_number_label_makes_regression_with_its_defaults() -> None:
    pipeline = parse(BASE.replace("field: bought, type: bool", "field: price"))
    assert pipeline.task == "regression"
    assert pipeline.model is not None
    assert pipeline.model.family == "linear_regression"
    assert pipeline.gate is not None
    assert pipeline.gate.metric == "r2"
    assert list(pipeline.fields) == ["items", "member", "country", "note"]


def test_int_label_can_be_declared_classes() -> None:
    text = BASE.replace("field: bought, type: bool", "field: stars, type: int, task: classification")
    assert parse(text + "model: {family: logistic_regression}\n").task == "classification"
    problem = only(BASE.replace("field: bought, type: bool", "field: stars, type: int")
                   + "model: {family: logistic_regression}\n")
    assert "events.label.task" in problem.remedy


def test_label_categories_come_from_the_label_or_its_field() -> None:
    assert parse(BASE.replace("field: bought, type: bool", "field: country")).label_categories == ("us", "no")


def test_every_problem_is_told_at_once_with_line_path_and_remedy() -> None:
    text = BASE.replace("type: float,", "type: flaot,").replace("partitions: 3", "partitions: none")
    text += "gate: {metrik: accuracy, metric: mse}\nclean:\n  missing: {countri: mode}\nhael: {}\n"
    found = {problem.path: problem for problem in problems(text)}
    assert set(found) == {"events.partitions", "events.fields.price.type", "gate.metrik", "gate.metric",
                          "clean.missing.countri", "hael"}
    assert [problem.line for problem in problems(text)] == [6, 8, 14, 14, 16, 17]
    assert found["events.fields.price.type"].remedy == "did you mean `float`?"
    assert found["gate.metrik"].remedy == "did you mean `metric`?"
    assert found["clean.missing.countri"].remedy == "did you mean `country`?"
    assert found["hael"].remedy == "did you mean `heal`?"
    assert "does not measure classification" in found["gate.metric"].message


def test_the_error_itself_names_the_first_place_and_the_number_of_others() -> None:
    with pytest.raises(InvalidPipeline) as caught:
        parse(BASE + "gate: {metric: mse}\nx: 1\n")
    assert caught.value.place == "line 14, gate.metric"
    assert "and 1 more problems" in str(caught.value)
    assert str(caught.value.problems[0]).startswith("line 14, gate.metric: mse does not measure classification (use")


@pytest.mark.parametrize(("old", "new", "path", "message"), [
    ("name: shop", "name: Shop", "metadata.name", "does not match"),
    ("name: shop", "name: shop-g2", "metadata.name", "ends like a topic"),
    ("name: shop", "name: shop-dead-letters", "metadata.name", "ends like a topic"),
    ("lepton/v1", "lepton/v2", "apiVersion", "is not one of"),
    ("kind: Pipeline\n", "", "kind", "required"),
    ("partitions: 3", "partitions: 0", "events.partitions", "greater than or equal to 1"),
    ("partitions: 3", 'partitions: "3"', "events.partitions", "valid integer"),
    ("    items: {type: int}\n", "    Items: {type: int}\n", "events.fields.Items", "cannot be a field name"),
    ("    items: {type: int}\n", "    _items: {type: int}\n", "events.fields._items", "cannot be a field name"),
    ("    items: {type: int}\n", "    default: {type: int}\n", "events.fields.default", "cannot be a field name"),
    ("items: {type: int}", "items: {type: tensor}", "events.fields.items.type", "is not one of"),
    ("items: {type: int}", "items: {type: int, range: [3, 1]}", "events.fields.items.range", "above the highest"),
    ("items: {type: int}", "items: {type: int, range: [1]}", "events.fields.items.range[1]", "required"),
    ("member: {type: bool}", "member: {type: bool, range: [0, 1]}", "events.fields.member.range", "has no range"),
    ("note: {type: text}", "note: {type: text, categories: [a]}", "events.fields.note.categories", "no categories"),
    ("[us, no]", "[us, us]", "events.fields.country.categories", "twice"),
    ("[us, no]", "[]", "events.fields.country.categories", "at least 1"),
    ("[us, no]", "[us, 3]", "events.fields.country.categories[1]", "valid string"),
    ("entity: customer", "entity: event_id\n  id: price", "events.id", "also a field"),
    ("entity: customer", "entity: customer\n  time: event_id", "events.time", "same member as id"),
    ("entity: customer", "entity: customer\n  time: customer", "events.time", "same member as entity"),
    ("entity: customer", "entity: price", "events.entity", "cannot be a partition key"),
    ("entity: customer", "entity: _x", "events.entity", "JSON member name"),
    ("entity: customer", "time: note", "events.time", "also a field"),
    ("field: bought, type: bool", "field: bought, type: bool, arives: later", "events.label.arives", "unknown key"),
    ("note: {type: text}", "note: {tipe: text, type: text}", "events.fields.note.tipe", "unknown key"),
    ("field: bought, type: bool", "field: event_id, type: bool", "events.label.field", "already the id"),
    ("field: bought, type: bool", "field: Bought, type: bool", "events.label.field", "cannot be a field name"),
    ("field: bought, type: bool", "field: membr", "events.label.field", "not one of fields"),
    ("field: bought, type: bool", "field: member, type: int", "events.label.type", "declared bool"),
    ("field: bought, type: bool", "field: note", "events.label.field", "text cannot be a label"),
    ("field: bought, type: bool", "field: bought, type: bool, task: regression", "events.label.task", "regressed"),
    ("field: bought, type: bool", "field: bought, type: float, task: classification", "events.label.task", "classes"),
    ("field: bought, type: bool", "field: b, type: bool, categories: [x, y]", "events.label.categories", "no categor"),
    ("field: bought, type: bool", "field: b, type: category, categories: [x]", "events.label.categories", "one class"),
    ("field: bought, type: bool", "field: b, type: category, categories: [x, x]", "events.label.categories", "twice"),
])
def test_one_wrong_thing_in_events_is_one_problem_at_its_path(old: str, new: str, path: str, message: str) -> None:
    assert old in BASE
    problem = only(BASE.replace(old, new))
    assert problem.path == path
    assert message in problem.message
    assert problem.line > 0


@pytest.mark.parametrize(("block", "path", "message"), [
    ("clean: {missing: {bought: mode}}", "clean.missing.bought", "not one of fields"),
    ("clean: {missing: {price: avg}}", "clean.missing.price", "mean, median, mode, drop"),
    ("clean: {missing: {price: {constant: [1]}}}", "clean.missing.price", "mean, median, mode, drop"),
    ("clean: {missing: {country: mean}}", "clean.missing.country", "has no mean"),
    ("clean: {missing: {default: {constant: 0}}}", "clean.missing.default", "does not fit every field"),
    ("clean: {missing: {price: {constant: free}}}", "clean.missing.price", "is no float"),
    ("clean: {missing: {items: {constant: 1.5}}}", "clean.missing.items", "is no int"),
    ("clean: {missing: {items: {constant: true}}}", "clean.missing.items", "is no int"),
    ("clean: {missing: {member: {constant: 1}}}", "clean.missing.member", "is no bool"),
    ("clean: {missing: {note: {constant: 1}}}", "clean.missing.note", "is no text"),
    ("clean: {missing: {price: {constant: 1001}}}", "clean.missing.price", "outside"),
    ("clean: {missing: {country: {constant: fr}}}", "clean.missing.country", "none of the field's categories"),
    ("clean: {outliers: {method: none, action: quarantine}}", "clean.outliers.action", "needs a method"),
    ("clean: {outliers: {action: clip}}", "clean.outliers.action", "needs a method"),
    ("clean: {outliers: {k: 2}}", "clean.outliers.k", "needs a method"),
    ("clean: {outliers: {method: iqr, k: 0}}", "clean.outliers.k", "greater than 0"),
    ("clean: {outliers: {method: iqr, k: .nan}}", "clean.outliers.k", "finite"),
    ("model: {family: linear_regression}", "model.family", "does not fit classification"),
    ("model: {family: logistic_regression, parameters: {hidden: [8]}}", "model.parameters.hidden", "no parameter"),
    ("model: {family: logistic_regression, parameters: {dropout: 0.1}}", "model.parameters.dropout", "no parameter"),
    ("model: {family: mlp, parameters: {hidden: []}}", "model.parameters.hidden", "at least 1"),
    ("model: {family: mlp, train: {first_rows: 50, window_rows: 20}}", "model.train.window_rows", "fewer"),
    ("model: {family: mlp, parameters: {leraning_rate: 1}}", "model.parameters.leraning_rate", "unknown key"),
    ("model: {family: mlp, train: {warm_start: 1}}", "model.train.warm_start", "valid boolean"),
    ("gate: {metric: r2}", "gate.metric", "does not measure classification"),
    ("gate: {metric: log_loss, at_least: 1}", "gate.at_least", "less log_loss is better"),
    ("gate: {metric: accuracy, at_most: 1}", "gate.at_most", "more accuracy is better"),
    ("gate: {at_least: 1}", "gate.metric", "required"),
    ("serve: {replicas: {min: 3, max: 2}}", "serve.replicas.min", "more than max"),
    ("serve: {batching: {max_rows: 64, queue_rows: 8}}", "serve.batching.queue_rows", "one full batch"),
    ("serve: {batching: {preferred_rows: [8, 128]}}", "serve.batching.preferred_rows", "no batch may be that large"),
    ("serve: {batching: {priority_levels: 2, default_priority: 3}}", "serve.batching.default_priority", "no such"),
    ("serve: {instances: 0}", "serve.instances", "greater than or equal to 1"),
    ("serve: {stream: {results: rows}}", "serve.stream.results", "is not one of"),
    ("serve: {rollout: sometime}", "serve.rollout", "is not one of"),
    ("serve: {trial: {step_s: 5}}", "serve.trial", "where the rollout is immediate"),
    ("serve: {rollout: canary, trial: {shares: [0.5, 0.1]}}", "serve.trial.shares", "larger than the one before"),
    ("serve: {rollout: canary, trial: {shares: [0.5, 1]}}", "serve.trial.shares[1]", "less than 1"),
    ("serve: {rollout: canary, trial: {step_s: 60, limit_s: 60}}", "serve.trial.limit_s", "before it may"),
    ("watch: {quality: {metric: mae}}", "watch.quality.metric", "does not measure"),
    ("watch: {quality: {window: 5, min_labels: 6}}", "watch.quality.min_labels", "never speak"),
    ("watch: {data: {bad_share: 2}}", "watch.data.bad_share", "less than or equal to 1"),
    ("heal: {notify: [1]}", "heal.notify[0]", "valid string"),
    ("heal: {budget: 3}", "heal.budget", "not 3"),
    ("clean: 3", "clean", "not 3"),
])
def test_one_wrong_thing_in_another_block_is_one_problem_at_its_path(block: str, path: str, message: str) -> None:
    problem = only(BASE + block + "\n")
    assert problem.path == path
    assert message in problem.message
    assert problem.line == 14


def test_model_gate_and_label_belong_together() -> None:
    text = BASE.replace("  label: {field: bought, type: bool}\n", "")
    found = problems(text + "model: {family: mlp}\ngate: {metric: accuracy}\n")
    assert [problem.path for problem in found] == ["model", "gate"]


def test_label_as_the_only_field_leaves_nothing_to_learn_from() -> None:
    text = HEAD + "events: {fields: {y: {type: bool}}, label: {field: y}}\n"
    assert "only field" in only(text).message


def test_missing_policy_of_the_label_is_a_problem() -> None:
    text = BASE.replace("field: bought, type: bool", "field: price") + "clean: {missing: {price: mean}}\n"
    assert "never filled in" in only(text).message


def test_an_error_in_one_field_does_not_hide_or_cause_others() -> None:
    text = BASE.replace("price: {type: float", "price: {type: flot")
    text += "clean: {missing: {price: mean, items: {constant: x}}}\n"
    assert [problem.path for problem in problems(text)] == ["events.fields.price.type", "clean.missing.items"]


def test_two_errors_in_one_list_are_two_problems_and_no_more() -> None:
    found = problems(BASE.replace("[us, no]", "[1, 2]"))
    assert [problem.path for problem in found] == [
        "events.fields.country.categories[0]", "events.fields.country.categories[1]"]


def test_policies_come_back_from_their_text() -> None:
    pipeline = parse(BASE + "clean: {missing: {default: drop, price: median, items: {constant: 1}, member: mode}}\n")
    assert parse(pipeline.to_yaml()) == pipeline
    assert from_json(pipeline.canonical_json()) == pipeline
    assert Clean(missing=pipeline.clean.missing) == pipeline.clean


def test_unusable_events_still_let_other_blocks_speak() -> None:
    text = HEAD + "events: {partitions: 2}\nserve: {replicas: {min: 2}}\n"
    assert [problem.path for problem in problems(text)] == ["events.fields", "serve.replicas.min"]


@pytest.mark.parametrize(("text", "message"), [
    ("", "must be a mapping"),
    ("- a\n", "must be a mapping"),
    ("a: [1\n", "not readable as YAML"),
    ("a: 1\n\tb: 2", "not readable as YAML"),
    ("a: \x00", "not readable as YAML"),
    ("a: !!python/object:os.system x", "not readable as YAML"),
    ("a: !!int x", "not readable as YAML"),
    ("a: &x [*x]", "too many or too deep"),
    ("[" * 40 + "]" * 40, "too deep"),
    ("[" * 5000, "nested deeper"),
    ("a: " + "x" * 300_000, "longer than"),
    ("---\na: 1\n---\nb: 1\n", "not readable as YAML"),
])
def test_text_that_is_no_pipeline_is_one_clear_problem(text: str, message: str) -> None:
    found = problems(text)
    assert any(message in problem.message for problem in found), [str(problem) for problem in found]


def test_a_repeated_key_is_a_problem_at_its_second_line() -> None:
    problem = only(BASE.replace("    items: {type: int}\n", "    items: {type: int}\n    items: {type: text}\n"))
    assert (problem.line, problem.path, problem.message) == (10, "events.fields.items", "the key appears twice")


def test_a_key_that_is_no_text_is_a_problem() -> None:
    assert "plain text" in only(BASE + "? [a]\n: 1\n").message


def test_yaml_no_and_exponents_mean_what_they_say() -> None:
    pipeline = parse(BASE + "model: {family: mlp, parameters: {learning_rate: 1e-3}}\n")
    assert pipeline.events.fields["country"].categories == ("us", "no")
    assert pipeline.model is not None
    assert pipeline.model.parameters.learning_rate == 0.001
    assert pipeline.model.parameters.layers == (32, 16)


def test_an_unquoted_null_is_the_action_of_that_name() -> None:
    text = """apiVersion: lepton/v1
kind: Pipeline
metadata: {name: nulls}
events: {id: id, fields: {x: {type: float, range: [0, 1], out_of_range: null}}}
clean: {outliers: {method: iqr, action: null}}
"""
    pipeline = parse(text)
    assert (pipeline.fields["x"].out_of_range, pipeline.clean.outliers.action) == ("null", "null")
    assert parse(pipeline.to_yaml()) == from_json(pipeline.canonical_json()) == pipeline


def test_json_problems_have_paths_but_no_lines() -> None:
    with pytest.raises(InvalidPipeline) as caught:
        from_json('{"apiVersion": "lepton/v1", "kind": "Pipeline", "metadata": {"name": "a"}, "events": {}}')
    assert [(p.path, p.line) for p in caught.value.problems] == [("events.fields", 0)]
    assert str(caught.value.problems[0]).startswith("events.fields: ")
    with pytest.raises(InvalidPipeline, match="not readable as JSON"):
        from_json("{")


def test_missing_policy_falls_from_field_to_default_to_what_fits_the_type() -> None:
    pipeline = parse(BASE + "clean: {missing: {default: median, items: {constant: 1}, note: drop}}\n")
    assert pipeline.missing_policy("price").kind == "median"
    assert pipeline.missing_policy("items").value == 1
    assert pipeline.missing_policy("country").kind == "mode"
    assert pipeline.missing_policy("note").kind == "drop"
    assert parse(BASE).missing_policy("price").kind == "mean"
    assert parse(BASE + "clean: {missing: {default: drop}}").missing_policy("country").kind == "drop"


@pytest.mark.parametrize(("default", "expected"), [("median", "median"), ("mode", "mode"), ("drop", "mean"),
                                                   ("forward_fill", "mean"), ("model", "mean")])
def test_a_window_column_without_a_value_is_no_fault_of_its_event(default: str, expected: str) -> None:
    pipeline = parse(BASE + f"clean: {{missing: {{default: {default}}}}}\n"
                     "features: {windows: [{name: w, size: 1m, aggregates: [count]}]}\n")
    assert pipeline.missing_policy("w_count").kind == expected


def test_outlier_width_has_a_default_for_each_method() -> None:
    assert parse(BASE + "clean: {outliers: {method: mad}}").clean.outliers.width == 3.5
    assert parse(BASE + "clean: {outliers: {method: mad, k: 2}}").clean.outliers.width == 2


def test_writing_out_the_defaults_does_not_change_the_digest() -> None:
    short = parse(BASE)
    long = parse(short.to_yaml())
    assert long == short
    assert long.digest() == short.digest()
    assert from_json(short.canonical_json()) == short
    assert parse(BASE.replace("items", "things")).digest() != short.digest()


def test_input_schema_follows_names_types_and_order_only() -> None:
    base = parse(BASE).input_schema_digest()
    assert parse(BASE.replace("[us, no]", "[us, no, de]")).input_schema_digest() == base
    assert parse(BASE.replace("items: {type: int}", "items: {type: float}")).input_schema_digest() != base
    swapped = BASE.replace("    items: {type: int}\n", "").replace("    note:", "    items: {type: int}\n    note:")
    assert parse(swapped).input_schema_digest() != base


def changed(*replacements: tuple[str, str]) -> Pipeline:
    text = BASE
    for old, new in replacements:
        assert old in text
        text = text.replace(old, new)
    return parse(text)


def test_a_new_optional_field_and_looser_rules_are_compatible() -> None:
    new = changed(("  label:", "    extra: {type: float}\n  label:"), ("[us, no]", "[us, no, de]"),
                  ("required: true", "required: false"))
    assert compatible(parse(BASE), new) == []


@pytest.mark.parametrize(("old", "new", "reason"), [
    ("partitions: 3", "partitions: 4", "partitions changes from 3 to 4"),
    ("entity: customer", "entity: buyer", "events.entity changes"),
    ("entity: customer", "entity: customer\n  id: key", "events.id changes"),
    ("    items: {type: int}\n", "", "field items is gone"),
    ("items: {type: int}", "items: {type: float}", "field items changes from int to float"),
    ("items: {type: int}", "items: {type: int, required: true}", "field items becomes required"),
    ("  label:", "    extra: {type: float, required: true}\n  label:", "field extra is new and required"),
    ("[us, no]", "[us]", "field country loses categories no"),
    ("field: bought, type: bool", "field: bought, type: float", "label_type changes from bool to float"),
])
def test_what_breaks_rows_or_models_is_named(old: str, new: str, reason: str) -> None:
    assert any(reason in found for found in compatible(parse(BASE), changed((old, new))))


def test_a_new_order_of_fields_and_fewer_label_classes_are_named() -> None:
    swapped = BASE.replace("    items: {type: int}\n", "").replace("    note:", "    items: {type: int}\n    note:")
    assert compatible(parse(BASE), parse(swapped)) == ["the order of fields changes"]
    label = ("field: bought, type: bool", "field: b, type: category, categories: [x, y, z]")
    fewer = ("field: bought, type: bool", "field: b, type: category, categories: [x, y]")
    assert compatible(changed(label), changed(fewer)) == ["the label loses categories z"]


def test_two_versions_are_set_against_each_other_only_where_a_label_can_tell() -> None:
    text = HEAD + "events: {fields: {amount: {type: float}}}\nserve: {rollout: ab}\n"
    assert only(text).path == "serve.rollout"
    label = "events: {fields: {amount: {type: float}}, label: {field: late, type: bool}}\nserve: {rollout: ab}\n"
    assert parse(HEAD + label).serve.rollout == "ab"
