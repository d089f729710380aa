"""The pull display on a real terminal (spec/cli.md section 1.6). The registry stops every layer half-way, so that there is
a screen to look at."""

import re
import subprocess

import msbregistry
import pytest

from msbcli import Terminal, wait_until

LAYERS = 12


@pytest.fixture(scope="module")
def layout(place):
    """Twelve layers of about 1.2 MB, so that progress is reported before the half; the first alone boots."""
    layout = msbregistry.Layout(str(place.directory / "layout"))
    more = [msbregistry.make_tar(msbregistry.random_tree(i, 20, 60_000)) for i in range(1, LAYERS)]
    layout.image([msbregistry.busybox_tar(), *more], {"Cmd": ["echo", "booted"], "Env": ["PATH=/bin"]})
    return layout.directory


@pytest.fixture
def registry(layout):
    with msbregistry.GatedRegistry(layout) as registry:
        yield registry


@pytest.fixture
def terminal(msb, registry):
    terminal = Terminal(msb, columns=110, rows=30)
    yield terminal
    terminal.close()


def bars(terminal):
    """{layer: the rest of its line}"""
    return {int(found[1]): found[2] for found in re.finditer(r"^     layer +(\d+)/12  (.*)$", terminal.screen(), re.M)}


def half_done(terminal, at_least=1):
    def enough():
        return sum("downloading" in line and "━" in line for line in bars(terminal).values()) >= at_least
    try:
        wait_until(enough)
    except TimeoutError:
        raise AssertionError(f"no bars that stand half-way; the screen shows:\n{terminal.screen()}") from None


def expect_screen(terminal, pattern):
    """The whole screen is this."""
    try:
        wait_until(lambda: re.fullmatch(pattern + r"\n*", terminal.screen()))
    except TimeoutError:
        raise AssertionError(f"not {pattern}; the screen shows:\n{terminal.screen()}") from None


def let_all_through(registry):
    for layer in range(LAYERS):
        registry.let_through(layer)


def test_layers_have_bars_that_are_gone_at_the_end(terminal, registry):
    reference = f"{registry.host}/team/app:1"
    terminal.line(f"clear; $MSB pull --insecure {reference}")
    half_done(terminal, 2)
    screen = terminal.screen()
    assert re.match(rf"   [⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏] Pulling      {reference} \(12 layers\)\n", screen), screen
    lines = bars(terminal)
    assert sorted(lines) == list(range(1, LAYERS + 1))
    for line in lines.values():
        bar, _, rest = line.partition("  ")
        if rest.strip() != "waiting":
            assert re.fullmatch("━*╌*", bar) and len(bar) == 36, line
            assert re.fullmatch(r"[0-9.]+ [KM]?i?B/[0-9.]+ [KM]iB +downloading", rest), line
    registry.let_through(0)
    wait_until(lambda: bars(terminal)[1] == "✓", what="the first layer to be done")
    let_all_through(registry)
    terminal.expect("host>")
    expect_screen(terminal, rf"   ✓ Pulled       {reference}( \([0-9.]+s\))?\nhost>")


def test_a_small_terminal_and_one_that_is_resized(terminal, registry):
    terminal.resize(60, 8)
    terminal.line(f"clear; $MSB pull -f --insecure {registry.host}/team/app:2")
    half_done(terminal)
    wait_until(lambda: "     and " in terminal.screen(), what="a line that counts the other layers")
    rows = terminal.screen().rstrip("\n").split("\n")
    assert len(rows) <= 7 and all(len(row) < 60 for row in rows), rows
    for columns in (110, 70):
        terminal.resize(columns, 30)

        def redrawn():
            # A terminal that got narrower has wrapped the old lines and may have moved some out of reach, above.
            rows = terminal.screen().rstrip("\n").split("\n")[-LAYERS - 1:]
            return (len(rows) == LAYERS + 1 and "Pulling" in rows[0] and all("layer" in row for row in rows[1:])
                    and max(map(len, rows)) < columns and max(map(len, rows)) > columns - 40)
        try:
            wait_until(redrawn)
        except TimeoutError:
            raise AssertionError(f"not redrawn for {columns} columns; the screen shows:\n{terminal.screen()}") from None
    let_all_through(registry)
    terminal.expect("   ✓ Pulled ")
    terminal.expect_last("host>")
    assert "Pulling" not in terminal.screen()


def test_an_interrupt_leaves_a_clean_terminal(terminal, registry):
    terminal.line("clear; echo before")
    expect_screen(terminal, "before\nhost>")  # what is typed before the prompt is back is shown twice
    terminal.line(f"$MSB pull -f --insecure {registry.host}/team/app:3")
    half_done(terminal)
    terminal.key("C-c")
    terminal.expect_last("host>")
    terminal.line("echo code $?")
    terminal.expect("host> echo code $?\ncode 130\n")  # ECHO is on again
    screen = terminal.screen()
    assert screen.startswith("before\nhost> $MSB pull") and "layer" not in screen and "Pulling" not in screen, screen


def test_nothing_is_drawn_off_a_terminal_or_with_quiet(msb, terminal, registry):
    let_all_through(registry)
    reference = f"{registry.host}/team/app:4"
    assert re.fullmatch(rf"   ✓ Pulled       {reference}( \(.*\))?\n", msb("pull", "--insecure", reference).err)
    terminal.line(f"clear; $MSB pull -f -q --insecure {reference}; echo done")
    expect_screen(terminal, r"done\nhost>")


def test_run_shows_the_pull_and_then_the_boot(msb, place, terminal, registry):
    msb.ok("image", "prune", "-y")  # layers of other tests would not be fetched again
    reference = f"{registry.host}/team/app:5"
    (place.home / "config.json").write_text('{"registries":{"hosts":{"%s":{"insecure":true}}}}' % registry.host)
    terminal.line(f"clear; $MSB run {reference}")
    half_done(terminal)
    assert f" Pulling      {reference} (12 layers)" in terminal.screen()
    let_all_through(registry)
    terminal.expect(" Starting     msb-")
    terminal.expect("booted")
    expect_screen(terminal, r"booted\nhost>")
    terminal.line("clear; $MSB create --pull always -n box " + reference)
    terminal.expect(" Creating     box")
    expect_screen(terminal, r"host>")
    msb.ok("rm", "-f", "box")


def test_load_shows_its_layers(msb, terminal, layout, place):
    archive = place.work / "app.tar"
    subprocess.run(["tar", "-C", layout, "-cf", archive, "."], check=True)
    terminal.line("clear; $MSB load -i app.tar -t loaded")
    terminal.expect("   ✓ Loaded       loaded")
    expect_screen(terminal, r"   ✓ Loaded       loaded\nhost>")
