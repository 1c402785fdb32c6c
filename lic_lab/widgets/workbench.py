"""The workbench: a picture, a rate point, the components of the entropy model, and what each costs."""

from __future__ import annotations

from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import ipywidgets as widgets
import numpy as np

from lic_lab.codecs.shared import MENU, chosen, meaningful
from lic_lab.figures.png import image_png
from lic_lab.image import Picture, Source, read
from lic_lab.widgets.attention import AttentionMaps
from lic_lab.widgets.background import Desk, Stop, Stopped, desk, start
from lic_lab.widgets.channels import Channels
from lic_lab.widgets.compare import Compare
from lic_lab.widgets.correlation import Correlation
from lic_lab.widgets.errors import guarded
from lic_lab.widgets.map import Map
from lic_lab.widgets.numbers import decibels, numbers_html
from lic_lab.widgets.pace import LONG, Progress
from lic_lab.widgets.page import Page
from lic_lab.widgets.panel import Panel, menu, row
from lic_lab.widgets.photographs import photographs
from lic_lab.widgets.session import Choice, Run, Session
from lic_lab.widgets.similarity import Similarity
from lic_lab.widgets.still import Still
from lic_lab.widgets.upload import Upload
from lic_lab.widgets.view import Scene

START = {"channel": "conv", "local": "checkerboard", "global": "none", "refinement": "none"}
TOOLTIPS = {
    "channel": "Channel context: slices are coded in turn, each seeing those before it",
    "local": "Local context: non-anchors see the anchors around them; raster order (without a channel context) sees "
    "the rows above",
    "global": "Global context: attention from the slice before (needs a channel context), or the most similar decoded "
    "position",
    "refinement": "LRP predicts the rounding error from what was decoded, and so changes the picture",
}
NAMES = {
    "none": "none",
    "conv": "convolutions",
    "checkerboard": "checkerboard",
    "stacked": "stacked checkerboard",
    "attention": "checkerboard attention",
    "raster": "raster order",
    "intra": "intra-slice",
    "intra-unmasked": "intra-slice, no mask",
    "intra+inter": "intra- and inter-slice",
    "reference": "reference",
    "lrp": "latent residual prediction",
}


THINNEST = 16  # as in map.js: the longer side may be this many times the shorter
STILL_SHOWN = "The run before is still shown."
WHY_RESET = {  # part: why what was chosen there has lost its meaning
    "local": "Raster order codes all channels of a position at once, so it has no slices for a channel context",
    "global": "This attention looks back from slice to slice, so it needs the channel context",
    "refinement": "LRP refines slices or halves of a checkerboard, and raster order has neither",
}


@dataclass
class Job:
    """A run that was asked for.

    Attributes
    ----------
    picture : Picture
    quality : int
    choice : dict
    stop : Stop
    """

    picture: Picture
    quality: int
    choice: Choice
    stop: Stop = field(default_factory=Stop)


class Workbench(Page):
    """See bits, maps and quality follow the components of an entropy model.

    Parameters
    ----------
    image : path, PIL image, array, tensor or Picture, optional
        What to open first; by default the first photograph.
    quality : int, optional
        Rate point to begin with; by default the lowest.
    components : dict of str to str, optional
        Components to begin with, as the shared latent's ``swap`` takes them; those not named are none.

    Attributes
    ----------
    run, pinned : Run or None
        What is shown (B), and the run pinned as A.
    photo, upload, path, quality, channel, local, global_, refinement, back, pin, unpin, stop, ground, view, tabs, row,
    column
        The controls, in the order of the Tab key.
    """

    def __init__(
        self, image: Source | Picture | None = None, quality: int | None = None, components: Choice | None = None
    ) -> None:
        super().__init__()
        self.session = Session()
        self.run: Run | None = None
        self.pinned: Run | None = None
        self._count = 0
        self._position = (0, 0)
        self._quiet = False  # while the program, not the user, sets menus
        self._settled: dict[str, Any] = {}  # the menus' values of the last run that succeeded
        self._numbered: Run | None = None  # whose numbers are shown: a run's are there before its picture
        self._job: Job | None = None  # the run that is going in the background
        self._before: Choice = {}  # the components before some were set to none
        self._pictures: dict[str, Path | Picture] = dict(photographs())  # a path is read again when it was forgotten
        self._read: WeakValueDictionary[str, Picture] = WeakValueDictionary()  # kept by the session's latents
        self._build()
        self._listen()
        self._start(image, quality, components)

    # -- the page ----------------------------------------------------------------------------------

    def _build(self) -> None:
        self.photo = menu(
            "Photograph", list(self._pictures), "Photographs that come with scikit-image; opened files join them"
        )
        self.upload = Upload(
            lambda path: self._open(path, desk(), lasting=False),
            self.complain,
            description="Upload a picture",
            tooltip="A file from your computer",
        )
        self.path = widgets.Text(
            description="Path",
            placeholder="~/picture.png",
            tooltip="A file on the machine that runs Python; Enter opens it",
            continuous_update=False,
        )
        self.quality = menu("Rate point", [], "Rate points that have trained weights, by quality and lambda")
        self.parts = {
            part: menu(part.capitalize(), [(NAMES[n], n) for n in names], TOOLTIPS[part], value=START[part])
            for part, names in MENU.items()
        }
        self.channel, self.local = self.parts["channel"], self.parts["local"]
        self.global_, self.refinement = self.parts["global"], self.parts["refinement"]
        self.pin = widgets.Button(
            description="Pin as A", tooltip="Keep this run as A and compare those that follow with it"
        )
        self.unpin = widgets.Button(description="Unpin", tooltip="Forget A", disabled=True)
        self.pin.add_class("lab-primary")
        self.pinned_words = widgets.HTML()
        self.reset_words = widgets.HTML()
        self.back = widgets.Button(description="Put back", tooltip="Choose the components as they were before")
        self.busy = widgets.HTML()
        self.stop = widgets.Button(description="Stop", tooltip="Stop this run; the one before stays")
        self.notes = widgets.HTML()
        self.numbers = widgets.HTML()
        self.view = widgets.ToggleButtons(
            options=["Reconstruction", "Original", "Error x 8"],
            tooltips=["What the decoder shows", "The picture as it was", "Absolute difference of the two, eight times"],
        )
        self.ground = widgets.ToggleButtons(
            options=["Bit map", "Over the picture"], tooltips=["The map alone", "The map laid over the original"]
        )
        self.picture_map = Map(
            name="picture", title="Reconstruction", tooltip="Click, or arrow keys, to move the cursor"
        )
        self.bit_map = Map(
            name="bits", title="Bits per latent position", tooltip="Click, or arrow keys, to move the cursor"
        )
        self.panels: list[Panel] = [Compare(), Channels(), Similarity(), Correlation(), AttentionMaps()]
        self.compare, self.channels, self.similarity, self.correlation, self.attention = self.panels
        self.tabs = widgets.ToggleButtons(
            options=[(panel.title, i) for i, panel in enumerate(self.panels)], tooltips=[p.tooltip for p in self.panels]
        )
        self.tabs.add_class("lab-tabs")
        self.row = widgets.BoundedIntText(
            description="Row", min=0, max=0, tooltip="Row of the cursor, in latent positions"
        )
        self.column = widgets.BoundedIntText(description="Column", min=0, max=0, tooltip="Column of the cursor")
        for number in (self.row, self.column):
            number.add_class("lab-number-field")
        for buttons in (self.view, self.ground):
            buttons.add_class("lab-toggle")

        labelled = [self.photo, self.path, self.quality, *self.parts.values(), self.row, self.column]
        labelled += [
            child for panel in self.panels for child in vars(panel).values() if isinstance(child, widgets.Dropdown)
        ]
        self.picture_map.tips = {control.description: control.tooltip for control in labelled}
        controls = widgets.VBox(
            [
                _heading("Picture"), self.photo, self.upload, self.path,
                _heading("Codec"), self.quality,
                _heading("Components"), *self.parts.values(), self.reset_words, self.back,
                _heading("Compare"), row(self.pin, self.unpin), self.pinned_words,
            ]
        )  # fmt: skip
        controls.add_class("lab-controls")
        self.pictures = row(
            widgets.VBox([self.view, self.picture_map]), widgets.VBox([self.ground, self.bit_map]), kind="lab-pictures"
        )
        cursor = row(self.row, self.column, kind="lab-cursor-fields")
        stage = widgets.VBox(
            [
                self.message,
                row(self.busy, self.stop, kind="lab-busy-row"),
                self.numbers,
                self.pictures,
                self.notes,
                row(self.tabs, cursor, kind="lab-tab-row"),
                *self.panels,
            ]
        )
        stage.add_class("lab-stage")
        self.fill(row(controls, stage, kind="lab-grid"))
        for panel in self.panels:
            panel.drawn = self.changed
        self._offer(START)
        self._forget_reset()
        self._progress(None)
        self._open_tab()

    def _listen(self) -> None:
        self.listen(self.photo, self._on_photo)
        self.listen(self.path, self._on_path)
        for control in (self.quality, *self.parts.values()):
            self.listen(control, self._on_menu)
        for button, act in (
            (self.back, self._on_back),
            (self.pin, self._on_pin),
            (self.unpin, self._on_unpin),
            (self.stop, self._on_stop),
        ):
            self.on_click(button, act)
        self.listen(self.view, lambda change: self._show_picture())
        self.listen(self.ground, lambda change: self._show_bits())
        self.listen(self.tabs, lambda change: self._open_tab())
        for map_ in (self.picture_map, self.bit_map, self.compare.map, self.similarity.map, self.attention.map):
            self.listen(map_, self._on_map, "position")
        for number in (self.row, self.column):
            self.listen(number, self._on_field)

    def _start(self, image: Source | Picture | None, quality: int | None, components: Choice | None) -> None:
        self._quiet = True
        try:
            self.quality.options = [(f"{q}  (λ = {lmbda:g})", q) for q, lmbda in self.session.qualities().items()]
            self.quality.value = self.quality.options[0][1]
        except Exception as error:
            for control in (self.photo, self.upload, self.path, self.quality, *self.parts.values(), self.pin):
                control.disabled = True
            self.complain(error)
            return
        finally:
            self._quiet = False
        self._settled = self._values()
        self._set(quality, components)
        if isinstance(image, Picture):
            self._join(image, image, None)
        elif image is not None:
            self._open(Path(image) if isinstance(image, str) else image, None)
        if self.run is None:
            words = self.message.value
            self._analyse(None, None)
            self.message.value = words or self.message.value

    def open_picture(self, picture: Picture, quality: int | None = None, components: Choice | None = None) -> None:
        """Show a picture, which joins the menu of photographs; at this rate point and with these components, if given.

        Raises
        ------
        ValueError
            For a rate point without weights, or components that are unknown or have no meaning together.
        """
        self._set(quality, components)
        self._join(picture, picture, desk())

    def _join(self, picture: Picture, source: Path | Picture, to: Desk | None) -> None:
        """Show a picture, which is in the menu from now on as what it came from."""

        def same(known: Path | Picture) -> bool:
            return known == source if isinstance(source, Path) else known is source

        title = next((title for title, known in self._pictures.items() if same(known)), picture.name)
        while title in self._pictures and not same(self._pictures[title]):  # another file of that name
            title += " (again)"
        self._pictures[title] = source
        self._read[title] = picture
        self._quiet = True
        try:
            if title not in self.photo.options:
                self.photo.options = [*self.photo.options, title]
            self.photo.value = title
        finally:
            self._quiet = False
        self._analyse(picture, to)

    def _set(self, quality: int | None, components: Choice | None) -> None:
        """Set the menus of the codec, without a run."""
        wanted = None if components is None else chosen(components, dict.fromkeys(MENU, "none"))
        have = [value for _, value in self.quality.options]
        if quality is not None and quality not in have:
            raise ValueError(f"quality is {quality!r}; there are weights for {', '.join(map(str, have))}")
        self._quiet = True
        try:
            self.quality.value = self.quality.value if quality is None else quality
        finally:
            self._quiet = False
        if wanted is not None:
            self._offer(wanted)

    # -- what the user does ------------------------------------------------------------------------

    def _on_menu(self, change: Any) -> None:
        if self._quiet:
            return
        wanted = self._choice()
        self._offer(wanted)
        self._forget_reset()
        lost = [part for part, name in self._choice().items() if name != wanted[part]]
        if lost:
            changed = next(part for part, control in self.parts.items() if control is change["owner"])
            self._say_reset(lost, wanted | {changed: change["old"]})
        self._analyse(self._current(), desk())

    def _on_back(self, button: Any) -> None:
        before = self._before
        self._forget_reset()
        self._offer(before)
        self._analyse(self._current(), desk())

    def _on_photo(self, change: Any) -> None:
        if not self._quiet:
            self.path.value = ""  # it is of another picture now
            self._analyse(None, desk())

    def _on_path(self, change: Any) -> None:
        if self._quiet:
            return
        if self.path.value.strip():
            self._open(Path(self.path.value.strip()), desk())
        else:
            self.say("")

    def _on_stop(self, button: Any) -> None:
        job, self._job = self._job, None
        if job is not None:
            job.stop.ask()
            self._as_before()
            self.say(f"Stopped. {STILL_SHOWN}")

    def _on_pin(self, button: Any) -> None:
        if self.run is None:
            return
        self.pinned = self.run
        self.unpin.disabled = False
        self.pinned_words.value = f"<p class='lab-words lab-pinned'><b>A</b> {escape(_full_label(self.run))}</p>"
        self._show_pinned()

    def _on_unpin(self, button: Any) -> None:
        self.pinned = None
        self.unpin.disabled = True
        self.pinned_words.value = ""
        self._show_pinned()

    def _on_map(self, change: Any) -> None:
        self._move(*change["new"])

    def _on_field(self, change: Any) -> None:
        self._move(self.row.value, self.column.value)

    # -- what follows ------------------------------------------------------------------------------

    def _values(self) -> dict[str, Any]:
        return {"photo": self.photo.value, "quality": self.quality.value, **{k: v.value for k, v in self.parts.items()}}

    def _choice(self) -> Choice:
        return {part: control.value for part, control in self.parts.items()}

    def _offer(self, wanted: Choice) -> None:
        """Set the menus, each offering what has a meaning with those above; what lost its meaning becomes none."""
        chosen = dict.fromkeys(MENU, "none")
        self._quiet = True
        try:
            for part, control in self.parts.items():
                names = [n for n in MENU[part] if meaningful(*(chosen | {part: n}).values())]
                options = [(NAMES[n], n) for n in names]
                chosen[part] = wanted[part] if wanted[part] in names else "none"
                if list(control.options) != options:
                    control.options = options
                control.value = chosen[part]
        finally:
            self._quiet = False

    def _say_reset(self, lost: list[str], before: Choice) -> None:
        """Say which components were set to none, and why, below the menus; and offer those before."""
        said = [f"{WHY_RESET[part]}: <b>{part} context</b> set to none." for part in lost if part != "refinement"]
        said += [f"{WHY_RESET[part]}: <b>{part}</b> set to none." for part in lost if part == "refinement"]
        self.reset_words.value = f"<p class='lab-words lab-reset' role='status'>{' '.join(said)}</p>"
        self._before = before
        for widget in (self.reset_words, self.back):
            widget.layout.display = ""

    def _forget_reset(self) -> None:
        for widget in (self.reset_words, self.back):
            widget.layout.display = "none"
        self.reset_words.value = ""

    def _restore(self) -> None:
        """Put the menus back to the last run that succeeded."""
        self._quiet = True
        try:
            self.photo.value, self.quality.value = self._settled["photo"], self._settled["quality"]
        finally:
            self._quiet = False
        self._offer({part: self._settled[part] for part in MENU})
        self._forget_reset()

    def _picture(self, title: str) -> Picture:
        found = self._pictures[title]
        if isinstance(found, Path):
            known = self._read.get(title)
            found = self._read[title] = known or read(found, name=title)
        return found

    def _current(self) -> Picture:
        """The picture that is shown, or is about to be."""
        if self._job is not None:
            return self._job.picture
        return self.run.trace.picture if self.run else self._picture(self.photo.value)

    def _open(self, source: Source, to: Desk | None, lasting: bool = True) -> None:
        """Open a picture; it joins the menu of photographs. A file that is `lasting` can be read again."""
        picture = None
        if not lasting:
            self.path.value = ""
        try:
            picture = read(source)
        except Exception as error:
            self.complain(error)
        if picture is not None:
            self._join(picture, source if lasting and isinstance(source, Path) else picture, to)

    def _analyse(self, picture: Picture | None, to: Desk | None) -> None:
        """Run what the menus say. On an error, words, and the menus and all that is shown stay as they were.

        With a desk a long run is computed in the background. One that is going gives way to this one.
        """
        if self._job is not None:
            self._job.stop.ask()
            self._job = None
            self._progress(None)
        self.say("")
        try:
            job = Job(picture or self._picture(self.photo.value), self.quality.value, self._choice())
            asked = (job.picture, job.quality, job.choice)
            if to is not None and self.session.seconds(*asked) > LONG:
                self._job = job
                start(lambda: self._work(job, to))
                return
            run = self.session.run(*asked, self._progress, self._show_numbers)
        except BaseException as error:
            self._failed(error)
            if not isinstance(error, Exception):  # who interrupts wants to be heard
                raise
            return
        self._done(run)

    def _work(self, job: Job, to: Desk) -> None:
        """A run in the background; what there is to show of it is handed over, and shown if it is still wanted."""

        def hand(action: Any, *arguments: Any) -> None:
            def show() -> None:
                if self._job is job:
                    guarded(action, self.complain)(*arguments)

            to.hand(show)

        try:
            run = self.session.run(
                job.picture,
                job.quality,
                job.choice,
                lambda progress: hand(self._progress, progress),
                lambda run: hand(self._show_numbers, run),
                job.stop,
            )
        except Stopped:
            return
        except BaseException as error:
            hand(self._failed, error)
        else:
            hand(self._done, run)

    def _failed(self, error: BaseException) -> None:
        self._job = None
        self._as_before()
        self.complain(error, STILL_SHOWN if self.run else "")

    def _as_before(self) -> None:
        """Of a run that did not end nothing stays."""
        self._progress(None)
        self._show_numbers(self.run)
        if self._settled:
            self._restore()

    def _done(self, run: Run) -> None:
        """Show a run."""
        before, self.run, self._job = self.run, run, None
        self._progress(None)
        self._settled = self._values()
        self._count += 1
        if before is None or before.trace.picture is not run.trace.picture:
            rows, columns = run.trace.geometry.latent
            self._position = (rows // 2, columns // 2)
        for show in (
            lambda: self._show_numbers(run), self._show_picture, self._show_bits, self._show_cursor,
            lambda: self._notes(run), self._show_panel,
        ):  # fmt: skip
            guarded(show, self.complain)()
        self.changed()

    def _move(self, i: int, j: int) -> None:
        if self.run is None or self._quiet or (i, j) == self._position:
            return
        rows, columns = self.run.trace.geometry.latent
        self._position = (min(max(i, 0), rows - 1), min(max(j, 0), columns - 1))
        self._show_cursor()
        self._panel.move(self._scene)

    # -- showing -----------------------------------------------------------------------------------

    @property
    def _scene(self) -> Scene:
        assert self.run is not None
        return Scene(self.session, self.run, self.pinned, self._position, self._count)

    @property
    def _panel(self) -> Panel:
        return self.panels[self.tabs.value]

    def still(self) -> Still:
        if self.run is None:
            return Still("The workbench", [], [], "lab.widgets.Workbench()")
        trace, source = self.run.trace, self._pictures[self._settled["photo"]]
        image = str(source) if isinstance(source, Path) else trace.picture.name
        facts = [("bits per pixel", f"{trace.bpp['total']:.4f}"), ("PSNR in dB", decibels(trace.psnr))]
        if self.pinned is not None:
            facts.append((f"A, {_full_label(self.pinned)}, bits per pixel", f"{self.pinned.trace.bpp['total']:.4f}"))
        in_tab = [child for child in vars(self._panel).values() if isinstance(child, Map)]
        maps = [self.picture_map, self.bit_map, *(map_ for map_ in in_tab if map_.layout.display != "none")]
        code = f"lab.widgets.Workbench({image!r}, quality={trace.quality}, components={trace.combination})"
        pictures = [(f"{map_.title}: {map_.readout}", map_.value) for map_ in maps if map_.value]
        return Still(f"Workbench: {_full_label(self.run)}", facts, pictures, code)

    def _show_numbers(self, run: Run | None) -> None:
        self._numbered = run
        self.numbers.remove_class("lab-stale")
        if run is not None:
            self.numbers.value = numbers_html(run, self.pinned)

    def _show_picture(self) -> None:
        if self.run is None or self.run.trace.x_hat is None:
            return
        trace, scene = self.run.trace, self._scene
        x_hat = self.run.trace.x_hat
        pixels = trace.x if self.view.value == "Original" else x_hat
        if self.view.value.startswith("Error"):
            error = np.abs(trace.x.astype(np.int16) - x_hat.astype(np.int16))
            pixels = np.minimum(8 * error, 255).astype(np.uint8)
        png = image_png(scene.reduced(pixels))
        height, width = trace.x.shape[:2]
        with self.picture_map.hold_sync():
            scene.place(self.picture_map)
            shown = f", shown at 1/{scene.scale}" if scene.scale > 1 else ""
            self.picture_map.show(
                png,
                title=self.view.value.replace("x", "×"),
                readout=f"{width} × {height}{shown}",
                description=f"{self.view.value} of {trace.picture.name}",
            )

    def _show_bits(self) -> None:
        if self.run is None:
            return
        scene, values = self._scene, self.run.trace.bit_map
        high = float(values.max())
        if self.pinned is not None and self.pinned.trace.picture is self.run.trace.picture:
            high = max(high, float(self.pinned.trace.bit_map.max()))  # one scale for A and B
        over = self.run.trace.x if self.ground.value != "Bit map" else None
        self.bit_map.description = f"Bits of y per latent position, up to {values.max():.0f} bits"
        scene.heatmap(self.bit_map, values, unit="bits", low=0.0, high=high, over=over)

    def _show_cursor(self) -> None:
        """Bring every map and field to the cursor's position."""
        assert self.run is not None
        rows, columns = self.run.trace.geometry.latent
        i, j = self._position
        self._quiet = True
        try:
            self.row.max, self.column.max = rows - 1, columns - 1
            self.row.value, self.column.value = i, j
            for map_ in (self.picture_map, self.bit_map, self.compare.map, self.similarity.map, self.attention.map):
                map_.position = [i, j]
            self.bit_map.readout = self._scene.name_position(self.run.trace.bit_map, "bits")
        finally:
            self._quiet = False

    def _show_pinned(self) -> None:
        """A came or went."""
        self._show_numbers(self.run)
        self._show_bits()
        self._show_panel()

    def _show_panel(self) -> None:
        if self.run is not None:
            self._panel.show(self._scene)

    def _open_tab(self) -> None:
        for panel in self.panels:
            panel.layout.display = "" if panel is self._panel else "none"
        self._show_panel()

    def _notes(self, run: Run) -> None:
        """What the user should know about this run."""
        notes = [f"{run.trace.picture.name}: {note}" for note in run.trace.picture.notes]
        if run.trace.patched:
            notes.append(
                "The picture is large: global attention runs in patches, each attending within itself (MLIC, 4.3.4)"
            )
        height, width = run.trace.x.shape[:2]
        if max(height, width) > THINNEST * min(height, width):
            notes.append(
                f"The picture is {width} x {height} pixels: it and its maps are shown stretched, each side at least a "
                f"{THINNEST}th of the other"
            )
        words = ". ".join(notes)
        self.notes.value = f'<div class="lab-note" role="status">{escape(words)}.</div>' if words else ""

    def _progress(self, progress: Progress | None) -> None:
        """Say where a long run is, and that what is shown is not its own; None when it has ended."""
        stale = [self.numbers, self.pictures, self.notes, *self.panels]
        if progress is None:
            self.busy.value = ""
            self.stop.layout.display = "none"
            for widget in stale:
                widget.remove_class("lab-stale")
            return
        dimmed = f" What is dimmed is still of {escape(_full_label(self.run))}." if self.run else ""
        bar = f"<i style='--done: {100 * progress.done:.0f}%; --left: {progress.left:.1f}s'></i>"
        words = f"<span>{escape(progress.words)}.{dimmed}</span>"
        self.busy.value = f'<div class="lab-busy" role="status">{words}{bar}</div>'
        self.stop.layout.display = "" if self._job else "none"
        for widget in stale if self.run else ():
            if widget is not self.numbers or self._numbered is self.run:
                widget.add_class("lab-stale")


def _heading(words: str) -> widgets.HTML:
    found = widgets.HTML(f"<h3>{words}</h3>")
    found.add_class("lab-heading")
    return found


def _full_label(run: Run) -> str:
    return f"{run.trace.picture.name}, quality {run.trace.quality}: {run.label}"
