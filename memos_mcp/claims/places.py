"""How closely a place is told: a country or a state, a town, or a street or a district of it.

Knows the names of countries and of large regions, and no map: which town lies where it cannot tell.
"""

from __future__ import annotations

import re
from typing import Literal

from memos_mcp.claims.words import wordset

Level = Literal["region", "town", "street"]

_REGIONS = wordset(
    "argentina australia austria bangladesh belgium brazil bulgaria cambodia canada chile china colombia croatia cuba "
    "cyprus czechia denmark egypt england estonia ethiopia europe finland france germany greece hungary iceland india "
    "indonesia iran iraq ireland israel italy jamaica japan jordan kenya latvia lebanon lithuania malaysia mexico "
    "morocco nepal netherlands nigeria norway pakistan panama peru philippines poland portugal romania russia scotland "
    "serbia singapore slovakia slovenia spain sweden switzerland syria taiwan tanzania thailand tunisia turkey uganda "
    "ukraine uruguay usa us uk uae venezuela vietnam wales america asia africa alabama alaska arizona arkansas "
    "california colorado connecticut delaware florida hawaii idaho illinois indiana iowa kansas kentucky louisiana "
    "maine maryland massachusetts michigan minnesota mississippi missouri montana nebraska nevada ohio oklahoma oregon "
    "pennsylvania tennessee texas utah vermont virginia wisconsin wyoming bavaria tuscany catalonia ontario quebec "
    "中国 日本 韩国 美国 英国 法国 德国 意大利 西班牙 葡萄牙 荷兰 瑞士 瑞典 挪威 丹麦 芬兰 俄罗斯 加拿大 澳大利亚 新西兰 新加坡 "
    "马来西亚 泰国 越南 印度 巴西 墨西哥 欧洲 亚洲 非洲 河北 山西 辽宁 吉林 黑龙江 江苏 浙江 安徽 福建 江西 山东 河南 湖北 湖南 "
    "广东 海南 四川 贵州 云南 陕西 甘肃 青海 台湾 内蒙古 广西 西藏 宁夏 新疆 东北 加州"
) | {"new zealand", "south korea", "north korea", "south africa", "saudi arabia", "costa rica", "united states",
     "united kingdom", "new york state", "new jersey", "new mexico", "north carolina", "south carolina",
     "british columbia", "czech republic", "united arab emirates"}  # fmt: skip
_STREET = re.compile(
    r"\d|\b(?:street|road|avenue|lane|drive|square|apartment|house|flat|building|district|borough|suburbs?|downtown|hill|"
    r"dorm|village)\b|[区路街巷弄号楼室村镇]$|小区|公寓|宿舍|附近|郊区|市中心"
)


def level(place: str) -> Level:
    """How closely a folded place is told."""
    if place.removesuffix("省").removeprefix("the ") in _REGIONS:
        return "region"
    return "street" if _STREET.search(place) else "town"
