"""Numbers with their units, dates and times of day: one value for what is written in many ways. Pure."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Final

from exp_pool.reuse.guard import chinese

# Dimension, then unit=other=names:factor to the dimension's first.
_UNITS: Final = """
length | metre=meter=m=米=公尺:1 kilometre=kilometer=km=kms=千米=公里:1000 centimetre=centimeter=cm=厘米=公分:.01 millimetre=millimeter=mm=毫米:.001
    mile=mi=英里:1609.344 yard=yd=码:.9144 foot=ft=英尺:.3048 inch=英寸:.0254 micrometre=micron=微米:1e-6 nanometre=nanometer=nm=纳米:1e-9 里:500 海里:1852 light-year=lightyear=光年:9.461e15
mass | kilogram=kilo=kg=kgs=公斤=千克:1 gram=gm=克:.001 milligram=mg=毫克:1e-6 pound=lb=lbs=磅:.45359237 ounce=oz=盎司:.028349523 tonne=ton=吨:1000 斤:.5 stone:6.35029
time | second=sec=secs=秒=秒钟:1 minute=min=mins=分钟:60 hour=hr=hrs=小时=钟头:3600 day=天:86400 week=wk=周=星期:604800 millisecond=ms=毫秒:.001 microsecond=us=微秒:1e-6
    nanosecond=ns=纳秒:1e-9 fortnight:1209600
span | month=mo=个月:1 quarter=季度:3 year=yr=yrs=年:12 decade:120 century=世纪:1200
age | 岁:1
volume | litre=liter=ltr=升=公升:1 millilitre=milliliter=ml=毫升:.001 gallon=gal=加仑:3.785 cup=杯:.25 pint:.473 cubic_metre=立方米:1000 teaspoon=tsp:.005 tablespoon=tbsp:.015
data | byte=字节:1 kilobyte=kb:1000 megabyte=mb=兆:1e6 gigabyte=gb:1e9 terabyte=tb:1e12 petabyte=pb:1e15 kib:1024 mib:1048576 gib:1073741824
bits | bit=比特:1 kbps:1e3 mbps:1e6 gbps:1e9
temperature | celsius=摄氏度=摄氏:1 | fahrenheit=华氏度=华氏:1000 | kelvin=开尔文:1e6
angle | degree=deg=度:1 radian=rad=弧度:57.29578
power | watt=瓦=瓦特:1 kilowatt=kw=千瓦:1000 megawatt=mw=兆瓦:1e6 horsepower=hp=马力:745.7
energy | joule=焦耳:1 kilojoule=kj=千焦:1000 calorie=cal=卡路里=卡:4.184 kilocalorie=kcal=大卡=千卡:4184 kwh=度电:3.6e6
current | ampere=amp=安培:1 milliamp=ma=毫安:.001
voltage | volt=伏=伏特:1 kilovolt=kv=千伏:1000
frequency | hertz=hz=赫兹:1 khz:1000 mhz:1e6 ghz:1e9
pressure | pascal=帕=帕斯卡:1 kilopascal=kpa=千帕:1000 bar:1e5 psi:6894.76 atm=大气压:101325
speed | mph:1.609344 kmh=kph:1
area | acre=英亩:4046.86 hectare=公顷:1e4 平方米=平米:1 平方公里:1e6 亩:666.67
share | percent=percentage=pct=%=％=个百分点:1
money | dollar=usd=us$=$=buck=美元=美金:1 cent=美分:.01 | euro=eur=€=欧元:1e3 | gbp=£=sterling=英镑:1e6 | rmb=yuan=cny=元=块=块钱=人民币=¥:1e9 角=毛:1e8
    jpy=yen=日元:1e12 rupee=inr=rs=₹=卢比:1e15 won=krw=韩元:1e18 franc=chf:1e21 bitcoin=btc=比特币:1e24 港币=港元=hkd:1e27 aud:1e30 cad:1e33 peso:1e36 ruble=卢布:1e39
"""
ONLY_BEHIND_NUMBERS = frozenset(
    "m mi second minute min mins ft us ma ms cal bar cup stone mo 里 周 年 杯 度 元 块 角 毛 码 升 卡 帕 伏 瓦 千 rad rs yard bit cad won 星期 h s g l c f t b v w a in mw".split()
)
_SHORT = {
    "h": "hour",
    "s": "second",
    "g": "gram",
    "l": "litre",
    "c": "celsius",
    "f": "fahrenheit",
    "in": "inch",
    "v": "volt",
    "w": "watt",
    "t": "tonne",
    "年": "year",
}


def _table() -> tuple[dict[str, tuple[str, str, float]], frozenset[str]]:
    units: dict[str, tuple[str, str, float]] = {}
    dimension = ""
    for line in _UNITS.strip().splitlines():
        head, bar, rest = line.partition(" | ")
        if bar and not line.startswith(" "):
            dimension = head
        else:
            rest = line
        for entry in rest.replace("|", " ").split():
            names, _, factor = entry.rpartition(":")
            first = names.split("=")[0]
            for name in names.split("="):
                units[name] = (first, dimension, float(factor))
    for short, name in _SHORT.items():
        units[short] = units[name]
    return units, frozenset(name for name in units if name > "\u2fff")


UNITS, CHINESE_UNITS = _table()


@dataclass(frozen=True, slots=True)
class Number:
    """A number, its unit if it has one, and how it is written."""

    value: float
    unit: str = ""
    soft: bool = False  # perhaps no number at all, such as "one"

    @property
    def base(self) -> tuple[str, float]:
        """Dimension and the value in its first unit."""
        _, dimension, factor = UNITS[self.unit]
        return dimension, self.value * factor

    def same(self, other: Number) -> bool:
        """Whether both may mean the same amount; a unit left out may be any."""
        if not self.unit or not other.unit:
            return math.isclose(self.value, other.value)
        (mine, value), (theirs, their_value) = self.base, other.base
        return mine == theirs and math.isclose(value, their_value, rel_tol=1e-3)


@dataclass(frozen=True, slots=True)
class Date:
    """A day, month or year, as much as is said. `either`: day and month may be the other way round (1/5/2024)."""

    year: int | None
    month: int | None = None
    day: int | None = None
    either: bool = False

    def same(self, other: Date) -> bool:
        """Whether nothing that both say differs, and they say something of the same kind."""
        pairs = [(self.year, other.year), (self.month, other.month), (self.day, other.day)]
        if (self.either or other.either) and self.month is not None and other.month is not None:
            swapped = [(self.year, other.year), (self.day, other.month), (self.month, other.day)]
            if _agree(swapped):
                return True
        return _agree(pairs)


def _agree(pairs: list[tuple[int | None, int | None]]) -> bool:
    known = [(one, other) for one, other in pairs if one is not None and other is not None]
    return bool(known) and all(one == other for one, other in known)


@dataclass(frozen=True, slots=True)
class Time:
    """A time of day in minutes; `half` where morning or afternoon is not said."""

    minutes: int
    half: bool = False

    def same(self, other: Time) -> bool:
        """Whether both may be the same time."""
        if self.half or other.half:
            return self.minutes % 720 == other.minutes % 720
        return self.minutes == other.minutes


_CHINESE_DIGITS = "".join(chinese.DIGITS)
_CHINESE_NUMBER = re.compile(
    "(?P<phrase>"
    + "|".join(sorted((p for p in chinese.SET_PHRASES), key=len, reverse=True))
    + "|(?:周|星期|礼拜)[一二三四五六])"
    rf"|百分之(?P<percent>[{_CHINESE_DIGITS}十百点]+)"
    rf"|(?P<number>[{_CHINESE_DIGITS}十拾百佰千仟万亿]+(?:点[{_CHINESE_DIGITS}]+)?)|(?P<myriad>\d+(?:\.\d+)?)\s?(?P<scale>[万亿])"
)


def arabic(text: str) -> str:
    """Chinese numbers as digits: 一百二十 becomes 120, 3万 30000, 百分之十 10%."""
    return _CHINESE_NUMBER.sub(_in_digits, text)


def _in_digits(found: re.Match[str]) -> str:
    if found["phrase"]:
        return found[0]
    if found["myriad"]:
        return f"{float(found['myriad']) * chinese.MYRIADS[found['scale']]:.15g}"
    if found["percent"]:
        return f"{chinese_value(found['percent']):.15g}%"
    written = found["number"]
    if written in ("万", "亿", "千", "百"):
        return found[0]
    if written in ("一", "两"):  # "一" is soft: see `reading`
        return "一" if written == "一" else "2"
    return f"{chinese_value(written):.15g}"


def chinese_value(written: str) -> float:
    """The value of a number in Chinese characters."""
    whole, _, fraction = written.partition("点")
    digits = chinese.DIGITS
    if len(whole) > 1 and all(c in digits for c in whole):
        total = float("".join(str(digits[c]) for c in whole)[:300])
    else:
        total = section = digit = 0.0
        for c in whole[:60]:
            if c in digits:
                digit = digits[c]
            elif c in chinese.SCALES:
                section += (digit or 1) * chinese.SCALES[c]
                digit = 0
            else:
                total = (total + section + digit or 1) * chinese.MYRIADS[c]
                section = digit = 0
        total += section + digit
    if fraction:
        total += float("0." + "".join(str(digits.get(c, 0)) for c in fraction[:30]))
    return total


_ROMAN = re.compile(r"(?=[IVX]{2,})X{0,3}(?:IX|IV|V?I{0,3})")


def roman(word: str) -> int | None:
    """The value of a Roman number of two letters or more (II, XIV); None for any other word."""
    if not _ROMAN.fullmatch(word):
        return None
    values = [{"I": 1, "V": 5, "X": 10}[c] for c in word]
    following = [*values[1:], 0]
    return sum(-value if value < after else value for value, after in zip(values, following, strict=True))
