"""The registry: what plugins provide, and what becomes of faulty ones."""

from __future__ import annotations

import sys

import pytest
from lossylens import hookspecs
from lossylens.codec import CodecSpec, Level
from lossylens.errors import ConfigError, PluginError, RequirementError
from lossylens.registry.plugins import Registry
from lossylens.uncompressed import Uncompressed

HOOKIMPL = "from lossylens.hookspecs import hookimpl\n"


def info(registry: Registry, name: str):
    return next(plugin for plugin in registry.plugins if plugin.name == name)


def error_of(registry: Registry, name: str) -> str:
    plugin = info(registry, name)
    assert plugin.status == "broken"
    assert plugin.traceback
    return plugin.error


def test_core_registers_uncompressed_by_its_own_hook(plants):
    registry = plants.load()
    found = registry.find("codec", "uncompressed")
    assert (found.plugin.name, found.plugin.distribution) == ("builtin", "lossylens")
    assert found.spec.rate(10**6, 2, 2) == 24
    assert isinstance(registry.build_codec("uncompressed", "raw"), Uncompressed)


def test_a_plugin_is_found_by_name_alias_and_origin(plants):
    plants.plant_codec("fine", names=("fine.two",), aliases=("Other_Name",))
    registry = plants.load()
    for name in (
        "fine.two",
        "FINE_two",
        "other-name",
        "fine/fine-two",
        "lossylens_codec_fine/other.name",
    ):
        assert registry.find("codec", name).spec.name == "fine.two", name
    with pytest.raises(PluginError, match=r"unknown codec 'builtin/fine\.two'"):
        registry.find("codec", "builtin/fine.two")


def test_all_is_sorted_and_of_one_kind(plants):
    plants.plant_codec("zeta", names=("zeta", "alpha"))
    names = [each.spec.name for each in plants.load().all("codec")]
    assert names == ["alpha", "uncompressed", "zeta"]
    assert plants.load().all("vlm") == []
    with pytest.raises(PluginError, match=r"unknown kind of plugin 'codecs'.*codec"):
        plants.load().all("codecs")


def test_unknown_name_gets_near_ones(plants):
    plants.plant_codec("jpeg")
    with pytest.raises(PluginError) as caught:
        plants.load().find("codec", "jpg2")
    assert str(caught.value) == "unknown codec 'jpg2'. Did you mean jpeg?"


def test_unknown_name_of_another_kind_says_so(plants):
    with pytest.raises(PluginError, match="There is a codec of that name"):
        plants.load().find("task", "uncompressed")


FAULTY = {
    "import": ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
    "syntax": ("def", "SyntaxError"),
    "exit": ("raise SystemExit('bye')", "SystemExit: bye"),
    "hook": (
        HOOKIMPL + "@hookimpl\ndef register_codecs(register): raise RuntimeError('inside')",
        "RuntimeError: inside",
    ),
    "hook-exit": (
        HOOKIMPL + "@hookimpl\ndef register_codecs(register): raise SystemExit",
        "SystemExit",
    ),
    "signature": (
        HOOKIMPL + "@hookimpl\ndef register_codecs(register, more): pass",
        "register_codecs(register, more)",
    ),
    "misspelt": (
        HOOKIMPL + "@hookimpl\ndef register_codec(register): pass",
        "unknown hook 'register_codec'. Did you mean register_codecs",
    ),
    "unmarked": (
        HOOKIMPL
        + "@hookimpl\ndef register_vlms(register): pass\ndef register_codecs(register): pass",
        "register_codecs is not marked with @lossylens.hookspecs.hookimpl",
    ),
    "nothing": ("", "implements no hook. Known: register_codecs"),
    "not-a-spec": (
        HOOKIMPL + "@hookimpl\ndef register_codecs(register): register('jpeg')",
        "register_codecs takes a CodecSpec, not a str",
    ),
}


@pytest.mark.parametrize("fault", FAULTY)
def test_a_faulty_plugin_is_reported_and_disturbs_no_other(plants, fault):
    source, expected = FAULTY[fault]
    plants.plant("faulty", source)
    plants.plant_codec("early", distribution="a-distribution")
    plants.plant_codec("late", distribution="z-distribution")
    registry = plants.load()
    assert expected in error_of(registry, "faulty")
    assert [plugin.name for plugin in registry.broken] == ["faulty"]
    assert registry.find("codec", "early")
    assert registry.find("codec", "late")


def test_ctrl_c_while_a_plugin_loads_is_not_contained(plants):
    plants.plant("slow", "raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        plants.load()


def test_half_a_registration_is_withdrawn(plants):
    plants.plant_codec("twice", names=("first", "second", "first"))
    registry = plants.load()
    assert "two codecs that answer to 'first'" in error_of(registry, "twice")
    assert [each.spec.name for each in registry.all("codec")] == ["uncompressed"]
    with pytest.raises(PluginError, match="unknown codec 'second'"):
        registry.find("codec", "second")


@pytest.mark.parametrize(
    ("names", "aliases"), [(("fine", "jpeg"), ()), (("other",), ("J_PEG", "jpeg"))]
)
def test_a_clash_names_both_distributions_and_the_later_one_goes(plants, names, aliases):
    plants.plant_codec("jpeg", distribution="lossylens-codec-jpeg")
    plants.plant_codec("again", names=names, distribution="zz-jpeg", aliases=aliases)
    registry = plants.load()
    error = error_of(registry, "again")
    assert "zz-jpeg" in error
    assert "lossylens-codec-jpeg" in error
    assert registry.find("codec", "jpeg").plugin.distribution == "lossylens-codec-jpeg"
    assert {each.spec.name for each in registry.all("codec")} == {"jpeg", "uncompressed"}


def test_the_core_goes_before_every_plugin(plants):
    plants.plant_codec("usurper", names=("uncompressed",), distribution="aaa")
    registry = plants.load()
    assert "aaa" in error_of(registry, "usurper")
    assert registry.find("codec", "uncompressed").plugin.distribution == "lossylens"


@pytest.mark.parametrize("disabled", ["lossylens-codec-jpeg", "zz-jpeg"])
def test_a_clash_says_how_to_keep_either(plants, monkeypatch, disabled):
    plants.plant_codec("jpeg", distribution="lossylens-codec-jpeg")
    plants.plant_codec("jpeg", distribution="zz-jpeg")
    error = next(each.error for each in plants.load().broken)
    kept = {"lossylens-codec-jpeg": "zz-jpeg", "zz-jpeg": "lossylens-codec-jpeg"}[disabled]
    assert f"LOSSYLENS_DISABLE_PLUGINS={disabled} keeps {kept}" in error
    assert "plugins.disable" in error
    monkeypatch.setenv("LOSSYLENS_DISABLE_PLUGINS", disabled)
    registry = plants.load()
    assert not registry.broken
    assert registry.find("codec", "jpeg").plugin.distribution == kept


def test_a_clash_within_a_distribution_names_its_plugins(plants, monkeypatch):
    points = "[lossylens]\none = planted_both_one\ntwo = planted_both_one\n"
    source = register_spec("codec")
    plants.plant("one", source, distribution="both", entry_points=points)
    error = next(each.error for each in plants.load().broken)
    assert "LOSSYLENS_DISABLE_PLUGINS=one keeps two" in error
    monkeypatch.setenv("LOSSYLENS_DISABLE_PLUGINS", "one")
    assert not plants.load().broken


def test_a_clash_with_the_core_does_not_say_to_disable_the_core(plants):
    plants.plant_codec("usurper", names=("uncompressed",), distribution="aaa")
    error = error_of(plants.load(), "usurper")
    assert "disable it with LOSSYLENS_DISABLE_PLUGINS=aaa" in error
    assert "keeps" not in error


def test_what_is_wrong_with_a_plugin_is_a_sentence_of_its_own(plants):
    plants.plant_codec("fine")
    plants.plant("newer", "", requires="lossylens>=9")
    with pytest.raises(PluginError) as caught:
        plants.load().find("codec", "newer")
    assert str(caught.value).endswith(
        "is broken: needs lossylens >=9, this is 0.1.0: upgrade lossylens."
        " 1 plugin is broken: see `lossylens doctor`."
    )


SPECS = {
    "codec": ("CodecSpec", {"levels": "(Level('q1'),)"}),
    "vlm": ("VlmSpec", {"parameters": "1.0"}),
    "task": ("TaskSpec", {"primary": "Primary('m', 0, 1)"}),
    "adaptor": ("AdaptorSpec", {}),
    "result": ("ResultSpec", {}),
}

#: For a kind: a field, what is given, and what is said of it.
MISTAKES = [
    *(
        (kind, field, value, said)
        for kind in SPECS
        for field, value, said in (
            ("name", "5", "name must be text, not 5 (int)"),
            ("summary", "None", "summary must be text, not None (NoneType)"),
            ("factory", "object", "factory must be text, not <class 'object'> (type)"),
            ("aliases", "'one'", "aliases must be a tuple, each item text, not 'one' (str)"),
            ("aliases", "(1,)", "aliases[0] must be text, not 1 (int)"),
            ("licence", "3", "licence must be text"),
            ("options", "{}", "options must be a class, not {} (dict)"),
            ("requirements", "[]", "requirements must be a function, not [] (list)"),
        )
    ),
    ("codec", "levels", "('q1',)", "levels[0] must be a Level, not 'q1' (str)"),
    ("codec", "levels", "'q1'", "levels must be a tuple, each item a Level, not 'q1' (str)"),
    ("codec", "levels", "None", "levels must be a tuple"),
    ("codec", "levels", "(Level(1),)", "levels[0].name must be text, not 1 (int)"),
    ("codec", "levels", "(Level('a', 'b'),)", "levels[0].parameters must be a mapping"),
    (
        "codec",
        "levels",
        "(Level('a', {'b': None}),)",
        "levels[0].parameters['b'] must be a whole number or a number or text, not None",
    ),
    ("codec", "lossless", "'yes'", "lossless must be True or False, not 'yes' (str)"),
    ("codec", "nominal_bpp", "'24'", "nominal_bpp must be a number or None"),
    ("codec", "level_sets", "{'a': 'q1'}", "level_sets['a'] must be a tuple, each item text"),
    ("codec", "parse_level", "'q1'", "parse_level must be a function or None"),
    ("vlm", "parameters", "'1B'", "parameters must be a number, not '1B' (str)"),
    ("vlm", "parameters", "True", "parameters must be a number, not True (bool)"),
    ("task", "primary", "'accuracy'", "primary must be a Primary, not 'accuracy' (str)"),
    ("task", "primary", "Primary('m', 0, '1')", "primary.high must be a number, not '1' (str)"),
]


def register_spec(kind, **given):
    spec, own = SPECS[kind]
    fields = {"name": "'x'", "summary": "''", "factory": "'a:B'", **own, **given}
    arguments = ", ".join(f"{key}={value}" for key, value in fields.items())
    return (
        HOOKIMPL + "from lossylens.codec import CodecSpec, Level\n"
        "from lossylens.vlm import VlmSpec\nfrom lossylens.task import Primary, TaskSpec\n"
        "from lossylens.adaptor import AdaptorSpec\nfrom lossylens.result import ResultSpec\n"
        f"@hookimpl\ndef register_{kind}s(register):\n    register({spec}({arguments}))\n"
    )


@pytest.mark.parametrize(("kind", "field", "value", "said"), MISTAKES)
def test_a_field_of_the_wrong_type_is_named(plants, kind, field, value, said):
    plants.plant("wrong", register_spec(kind, **{field: value}))
    error = error_of(plants.load(), "wrong")
    assert error.startswith(f"{kind} ")
    assert said in error


@pytest.mark.parametrize("kind", SPECS)
def test_declarations_of_the_right_types_are_taken(plants, kind):
    more = {"aliases": "['y']", "options": "NoOptions", "requirements": "lambda options: ()"}
    source = "from lossylens.spec import NoOptions\n" + register_spec(kind, **more)
    plants.plant("right", source)
    registry = plants.load()
    assert not registry.broken
    assert registry.find(kind, "y")


def test_a_swallowed_clash_still_withdraws_the_plugin(plants):
    plants.plant(
        "sly",
        """
        from lossylens.codec import CodecSpec, Level
        from lossylens.hookspecs import hookimpl

        @hookimpl
        def register_codecs(register):
            for name in ("uncompressed", "sly"):
                try:
                    register(CodecSpec(name=name, summary="", factory="a:B", levels=(Level("x"),)))
                except Exception:
                    pass
        """,
    )
    registry = plants.load()
    assert "both answer to 'uncompressed'" in error_of(registry, "sly")
    assert len(registry.all("codec")) == 1


def test_registering_after_the_hook_is_refused(plants):
    module = plants.plant(
        "late",
        """
        from lossylens.hookspecs import hookimpl

        @hookimpl
        def register_codecs(register):
            global kept
            kept = register
        """,
    )
    registry = plants.load()
    assert info(registry, "late").status == "loaded"
    spec = CodecSpec(name="late", summary="", factory="a:B", levels=(Level("x"),))
    with pytest.raises(PluginError, match="register inside the hook"):
        sys.modules[module].kept(spec)
    assert len(registry.all("codec")) == 1


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"name": "Upper"}, "use lower case"),
        ({"name": "a/b"}, "invalid codec name 'a/b'"),
        ({"aliases": ("",)}, "invalid codec name ''"),
        ({"factory": "module.Class"}, "is not 'package.module:Class'"),
        ({"options": dict}, "options must be a dataclass"),
        ({"levels": ()}, "has no levels"),
        ({"levels": (Level("q1"), Level("Q1"))}, "two levels of one name"),
    ],
)
def test_a_malformed_declaration_breaks_its_plugin(plants, change, expected):
    given = {"name": "odd", "summary": "", "factory": "a:B", "levels": (Level("x"),)} | change
    module = plants.plant(
        "odd",
        """
        from lossylens.codec import CodecSpec, Level
        from lossylens.hookspecs import hookimpl

        @hookimpl
        def register_codecs(register):
            register(CodecSpec(**GIVEN))
        """,
    )
    source = plants.folder / f"{module}.py"
    text = repr(given).replace("<class 'dict'>", "dict")
    source.write_text(f"{source.read_text()}\nGIVEN = {text}\n")
    assert expected in error_of(plants.load(), "odd")


def test_a_missing_name_of_a_broken_plugin_is_answered_with_its_cause(plants):
    plants.plant("elic", "import no_such_module")
    plants.plant_codec("jpeg")
    registry = plants.load()
    for wanted in ("elic", "ELIC", "elic-nano", "lossylens-codec-elic/elic"):
        with pytest.raises(PluginError) as caught:
            registry.find("codec", wanted)
        text = str(caught.value)
        assert "Plugin elic (lossylens-codec-elic 1.0)" in text, wanted
        assert "No module named 'no_such_module'" in text, wanted
        assert "lossylens doctor" in text, wanted
    with pytest.raises(PluginError) as caught:
        registry.find("codec", "jpg")
    assert "no_such_module" not in str(caught.value)
    assert "Did you mean jpeg?" in str(caught.value)
    assert "1 plugin is broken: see `lossylens doctor`" in str(caught.value)
    with pytest.raises(PluginError) as caught:
        registry.find("vlm", "elic-7b")
    assert "no_such_module" not in str(caught.value), "a codec's distribution has no VLMs"


def test_a_missing_name_of_a_disabled_plugin_is_answered_with_what_disables_it(plants, monkeypatch):
    plants.plant_codec("jpeg")
    monkeypatch.setenv("LOSSYLENS_DISABLE_PLUGINS", "jpeg")
    with pytest.raises(PluginError, match="is disabled by LOSSYLENS_DISABLE_PLUGINS"):
        plants.load().find("codec", "jpeg")


def test_a_disabled_plugin_is_not_imported(plants):
    module = plants.plant_codec("jpeg")
    registry = plants.load(disable=["JPEG"])
    assert info(registry, "jpeg").disabled
    assert info(registry, "jpeg").disabled_by == "plugins.disable"
    assert module not in sys.modules
    assert not registry.broken


@pytest.mark.parametrize("listed", ["one", "lossylens-codec-one", "Lossylens_Codec.One"])
def test_allow_list_names_plugins_or_distributions(plants, monkeypatch, listed):
    plants.plant_codec("one")
    plants.plant_codec("two")
    monkeypatch.setenv("LOSSYLENS_PLUGINS", f" {listed} ,")
    registry = plants.load()
    assert info(registry, "two").disabled_by == "LOSSYLENS_PLUGINS"
    assert {each.spec.name for each in registry.all("codec")} == {"one", "uncompressed"}


def test_an_empty_allow_list_leaves_the_core(plants, monkeypatch):
    plants.plant_codec("one")
    monkeypatch.setenv("LOSSYLENS_PLUGINS", "")
    registry = plants.load()
    assert [p.name for p in registry.plugins if not p.disabled] == ["builtin"]


def test_environment_and_configuration_restrict_together(plants, monkeypatch):
    for name in ("one", "two", "three", "four"):
        plants.plant_codec(name)
    monkeypatch.setenv("LOSSYLENS_PLUGINS", "one,two,three")
    monkeypatch.setenv("LOSSYLENS_DISABLE_PLUGINS", "one")
    registry = plants.load(only=["one", "two", "three", "four"], disable=["two"])
    loaded = [p.name for p in registry.plugins if p.status == "loaded"]
    assert loaded == ["builtin", "three"]


@pytest.mark.parametrize(
    ("variable", "argument"),
    [
        ("LOSSYLENS_PLUGINS", None),
        ("LOSSYLENS_DISABLE_PLUGINS", None),
        (None, "only"),
        (None, "disable"),
    ],
)
def test_an_unknown_name_in_a_list_is_an_error(plants, monkeypatch, variable, argument):
    plants.plant_codec("jpeg")
    if variable:
        monkeypatch.setenv(variable, "jpge")
    arguments = {argument: ["jpge"]} if argument else {}
    where = variable or f"plugins.{argument}"
    expected = f"{where} names an unknown plugin 'jpge'. Did you mean jpeg?"
    with pytest.raises(PluginError) as caught:
        plants.load(**arguments)
    assert str(caught.value) == expected
    assert plants.load(strict=False, **arguments).selection_problems == (expected,)


def test_the_core_cannot_be_disabled(plants):
    with pytest.raises(PluginError, match="the core, which cannot be disabled"):
        plants.load(disable=["lossylens"])
    assert plants.load(disable=["builtin"], strict=False).find("codec", "raw")


def test_what_a_plugin_prints_while_loading_goes_to_stderr(plants, capsys):
    plants.plant("loud", HOOKIMPL + "print('hello')\n@hookimpl\ndef register_vlms(register): 0")
    plants.load()
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "hello" in printed.err


IMPLEMENTED = """
from lossylens.codec import CodecSpec, Level
from lossylens.hookspecs import hookimpl
from lossylens.spec import Missing
from dataclasses import dataclass

@dataclass
class Options:
    path: str = ""

def needs(options):
    if options.path == "boom":
        raise RuntimeError("in the check")
    return () if options.path else (Missing("checkpoint x", "set path"), Missing("tool y", "get"))

@hookimpl
def register_codecs(register):
    register(
        CodecSpec(
            name="mine", summary="", factory={factory!r}, levels=(Level("x"),), options=Options,
            requirements=needs,
        )
    )
"""


def plant_mine(plants, factory):
    plants.plant("mine", IMPLEMENTED.format(factory=factory))
    return plants.load()


def test_building_passes_level_and_options(plants):
    registry = plant_mine(plants, "lossylens.uncompressed:Uncompressed")
    codec = registry.build_codec("mine", "x", {"path": "here"})
    assert (codec.level, codec.options.path) == (Level("x"), "here")
    again = registry.build_codec("mine", Level("y"), codec.options)
    assert again.options is codec.options
    with pytest.raises(ConfigError, match="no level 'z'"):
        registry.build_codec("mine", "z", {"path": "here"})
    with pytest.raises(ConfigError, match=r"codecs\.mine\.pth: unknown option\. Did you mean path"):
        registry.build_codec("mine", "x", {"pth": "here"})


def test_missing_requirements_are_listed_with_remedies(plants):
    registry = plant_mine(plants, "no.such.module:Class")
    with pytest.raises(RequirementError) as caught:
        registry.build_codec("mine", "x")
    for part in ("codec 'mine'", "checkpoint x: set path", "tool y: get"):
        assert part in str(caught.value)


def test_a_failing_requirement_check_names_the_plugin(plants):
    registry = plant_mine(plants, "lossylens.uncompressed:Uncompressed")
    with pytest.raises(PluginError, match=r"lossylens-codec-mine 1.0.*RuntimeError: in the check"):
        registry.build_codec("mine", "x", {"path": "boom"})


@pytest.mark.parametrize(
    ("factory", "expected"),
    [
        ("no_such_module:Class", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("lossylens.uncompressed:Absent", "AttributeError"),
        ("lossylens.errors:DataError", "is not a subclass of lossylens.codec.Codec"),
        ("lossylens.codec:bits_per_pixel", "is not a subclass of lossylens.codec.Codec"),
        ("lossylens.codec:Codec", "lacks decode, encode"),
        ("planted_exits:Class", "SystemExit: no"),
    ],
)
def test_a_factory_that_cannot_be_used_names_plugin_and_cause(plants, factory, expected):
    (plants.folder / "planted_exits.py").write_text("raise SystemExit('no')")
    registry = plant_mine(plants, factory)
    with pytest.raises(PluginError) as caught:
        registry.build_codec("mine", "x", {"path": "here"})
    assert "mine (lossylens-codec-mine 1.0)" in str(caught.value)
    assert expected in str(caught.value)


KIND_PLUGIN = """
from lossylens.{kind} import *
from lossylens.{kind} import {spec}
from lossylens.hookspecs import hookimpl

class Made({base}):
    {abstract} = None
    def __init__(self, *arguments): self.arguments = arguments
    {body}

@hookimpl
def register_{kind}s(register):
    register({spec}(name="made", summary="", factory=__name__ + ":Made", {more}))
"""

KIND_HOOKS = {
    "register_codecs": ("codec", "CodecSpec", "Codec", "encode decode", "levels=(Level('q'),)"),
    "register_vlms": ("vlm", "VlmSpec", "Vlm", "answer", "parameters=1"),
    "register_tasks": (
        "task",
        "TaskSpec",
        "Task",
        "samples score fingerprint",
        "primary=Primary('a', 0, 1)",
    ),
    "register_adaptors": ("adaptor", "AdaptorSpec", "Adaptor", "picture", ""),
    "register_results": ("result", "ResultSpec", "PublishedResults", "load", ""),
    "register_reports": ("report", "ReportSpec", "Report", "write", ""),
    "register_executors": ("executor", "ExecutorSpec", "Executor", "run room", ""),
}


@pytest.mark.parametrize("hook", KIND_HOOKS)
def test_each_registration_hook_leads_to_something_that_can_be_built(plants, hook):
    kind, spec, base, methods, more = KIND_HOOKS[hook]
    abstract = " = ".join(methods.split())
    source = KIND_PLUGIN.format(
        kind=kind, spec=spec, base=base, abstract=abstract, body="", more=more
    )
    plants.plant("made", source, distribution="made")
    registry = plants.load()
    assert not registry.broken, registry.broken
    arguments = ("q",) if kind == "codec" else ()
    built = getattr(registry, f"build_{kind}")("made", *arguments)
    assert type(built).__name__ == "Made"
    expected = 2 if kind == "codec" else 1
    assert len(built.arguments) == expected


def test_commands_hook_is_called_with_an_application(plants):
    from lossylens.cli.commands import plugin_commands

    plants.plant(
        "extra",
        HOOKIMPL + "@hookimpl\ndef register_commands(app): app.command('hello')(lambda: None)",
    )
    assert list(plugin_commands(plants.load())) == ["hello"]


def test_every_hook_has_a_test_above():
    marked = [name for name in vars(hookspecs) if name.startswith("register_")]
    assert {*KIND_HOOKS, "register_commands"} == set(marked)
