"""stub until merge"""
import re
from dataclasses import dataclass
from datetime import date, timedelta
import calendar
@dataclass(frozen=True)
class Span:
    first: date
    last: date
    year_known: bool
    start: int
    end: int
    slack: int = 0
MONTHS="january february march april may june july august september october november december".split()
_W=re.compile(r"\b(when|what (date|day|month|year|time)|which (day|month|year)|how long)\b|什么时候|哪天|几号|何时|哪一天",re.I)
_T=re.compile(r"\b(yesterday|today|tonight|tomorrow|last|next|ago|week|weekend|month|year|monday|tuesday|wednesday|thursday|friday|saturday|sunday|january|february|march|april|june|july|august|september|october|november|december|recently|since|morning|night)\b|昨|今天|上周|去年|前天|月|号",re.I)
def is_temporal_question(t): return bool(_W.search(t))
def time_phrase(t): return bool(_T.search(t))
def _d(y,m,d,known,s,e,anchor,out):
    try:
        if d is None: out.append(Span(date(y,m,1),date(y,m,calendar.monthrange(y,m)[1]),True,s,e))
        else: out.append(Span(date(y,m,d),date(y,m,d),known,s,e))
    except ValueError: pass
def mentions(t,anchor=None):
    t=t.lower(); out=[]; ay=(anchor or date(2020,1,1)).year
    for m in re.finditer(r"(\d{1,2})月(\d{1,2})[号日]",t): _d(ay,int(m[1]),int(m[2]),False,m.start(),m.end(),anchor,out)
    for m in re.finditer(r"(\d{1,2})(?:st|nd|rd|th)?(?: of)? ("+"|".join(MONTHS)+r")(?:,? (\d{4}))?",t): _d(int(m[3]) if m[3] else ay,MONTHS.index(m[2])+1,int(m[1]),bool(m[3]),m.start(),m.end(),anchor,out)
    for m in re.finditer("("+"|".join(MONTHS)+r") (\d{1,2})(?:st|nd|rd|th)?(?:,? (\d{4}))?\b",t): _d(int(m[3]) if m[3] else ay,MONTHS.index(m[1])+1,int(m[2]),bool(m[3]),m.start(),m.end(),anchor,out)
    if not out:
        for m in re.finditer("("+"|".join(MONTHS)+r"),? (\d{4})",t): _d(int(m[2]),MONTHS.index(m[1])+1,None,True,m.start(),m.end(),anchor,out)
    if anchor:
        for m in re.finditer(r"yesterday|昨天",t): d=anchor-timedelta(1); out.append(Span(d,d,True,m.start(),m.end()))
    return out
