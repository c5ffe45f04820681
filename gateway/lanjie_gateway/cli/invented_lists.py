"""How listings of each list type look in practice: data for `invented`, every name and number in it made up.

Authorities, reasons and terms have the shape of real lists; no document, unit or subject of this module exists.
"""

from dataclasses import dataclass
from typing import Final

CITIES: Final = (
    ("320100", "南京", "宁"),
    ("320200", "无锡", "锡"),
    ("320300", "徐州", "徐"),
    ("320400", "常州", "常"),
    ("320500", "苏州", "苏"),
    ("320600", "南通", "通"),
    ("320700", "连云港", "连"),
    ("320800", "淮安", "淮"),
    ("320900", "盐城", "盐"),
    ("321000", "扬州", "扬"),
    ("321100", "镇江", "镇"),
    ("321200", "泰州", "泰"),
    ("321300", "宿迁", "宿"),
)
"""Region, name and short name of the cities of Jiangsu."""

WORDS_1: Final = "云 青 明 远 江 海 星 禾 松 晨 锦 泽 岚 汇 恒 朗 沐 川 竹 安 启 荣 瑞 益 和 嘉 宁 景 宏 新".split()
WORDS_2: Final = "帆 石 达 川 舟 林 润 桥 禾 原 丰 光 源 和 盛 宇 峰 泉 辰 岭 程 途 邦 信 合 康 亭 雨 野 扬".split()

TRADES: Final = (
    "建设 建筑装饰 市政工程 园林绿化 商贸 食品 医疗器械 机电设备 信息技术 物流 劳务 旅行社 环保科技 检测技术 文化传媒 "
    "纺织 新材料 餐饮管理 物业服务 船舶配件"
).split()

FORMS: Final = {
    "91": "{trade}有限公司",
    "92": "{trade}经营部",
    "93": "{trade}专业合作社",
    "12": "{trade}中心",
    "52": "{trade}服务社",
    "31": "律师事务所",
    "N2": "经济合作社",
    "A1": "保障站",
}
"""Name of a subject by the first two characters of its code."""

REMEDIES: Final = "如不服本决定,可自收到决定书之日起六十日内申请行政复议,或者六个月内提起行政诉讼。"
REMEDIES_COURT: Final = "可向作出列入决定的人民法院书面申请纠正;对驳回决定不服的,可向上一级人民法院申请复议。"
REMOVED_ON_REPAIR: Final = "纠正失信行为、消除不良影响并满规定期限后,可向列入单位申请提前移出。"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sanction:
    """A decision behind a listing: its kind, term, how often, and whether a person bears it."""

    kind: str
    months: int
    weight: int = 1
    person: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """Listings of one list type.

    Attributes:
        weight: share of all listings, in thousandths.
        authority: with ``{city}`` for the city's name.
        number: decision number with ``{short}``, ``{year}`` and ``{serial}``.
        months: term in months; 0 where only removal ends it.
        ends: column of the end: ``expires_on``, ``publicity_until``, or "".
        persons: share of natural persons, in thousandths.
    """

    code: str
    weight: int
    authority: str
    number: str
    reasons: tuple[str, ...]
    basis: str
    months: int
    ends: str
    removal: str = REMOVED_ON_REPAIR
    remedies: str = REMEDIES
    persons: int = 0
    sanctions: tuple[Sanction, ...] = ()


SHAPES: Final = (
    Shape(
        code="SXBZXR",
        weight=400,
        authority="{city}市示例人民法院",
        number="({year})苏示例执{serial}号",
        reasons=("有履行能力而拒不履行生效法律文书确定的义务", "违反财产报告制度", "违反限制消费令"),
        basis="最高人民法院关于公布失信被执行人名单信息的若干规定第一条",
        months=24,
        ends="expires_on",
        removal="履行生效法律文书确定的义务,或者名单期限届满。",
        remedies=REMEDIES_COURT,
        persons=300,
        sanctions=(
            Sanction(kind="court_consumption_order", months=24, weight=8),
            Sanction(kind="court_exit_order", months=24, weight=1, person=True),
            Sanction(kind="court_transport_order", months=12, weight=1, person=True),
        ),
    ),
    Shape(
        code="ZDSSWF",
        weight=70,
        authority="国家税务总局{city}市税务局示例稽查局",
        number="{short}税示例公〔{year}〕{serial}号",
        reasons=("伪造、变造账簿,少缴应纳税款", "虚开增值税专用发票", "骗取国家出口退税款"),
        basis="重大税收违法失信主体信息公布管理办法(国家税务总局令第54号)",
        months=36,
        ends="publicity_until",
        persons=40,
        sanctions=(
            Sanction(kind="tax_penalty", months=12, weight=9),
            Sanction(kind="tax_exit_order", months=36, weight=1, person=True),
        ),
    ),
    Shape(
        code="SJYZWF",
        weight=190,
        authority="{city}市示例市场监督管理局",
        number="{short}市监示例列〔{year}〕{serial}号",
        reasons=(
            "生产销售不符合食品安全标准的食品,受到较重行政处罚",
            "提交虚假材料取得登记,受到较重行政处罚",
            "发布虚假广告",
        ),
        basis="市场监督管理严重违法失信名单管理办法(国家市场监督管理总局令第44号)",
        months=36,
        ends="expires_on",
        persons=60,
        sanctions=(
            Sanction(kind="market_penalty", months=12, weight=10),
            Sanction(kind="food_licence_revocation", months=60, weight=3, person=False),
            Sanction(kind="special_equipment_licence_revocation", months=36, weight=1, person=False),
            Sanction(kind="device_licence_ban", months=120, weight=1, person=False),
            Sanction(kind="food_practice_ban", months=60, weight=3, person=True),
            Sanction(kind="drug_practice_ban", months=120, weight=1, person=True),
            Sanction(kind="annual_report_default", months=36, weight=2, person=True),
        ),
    ),
    Shape(
        code="TQNMGGZ",
        weight=125,
        authority="{city}市示例人力资源和社会保障局",
        number="{short}人社示例列〔{year}〕{serial}号",
        reasons=("克扣、无故拖欠农民工工资达到认定拒不支付劳动报酬罪数额标准", "拖欠农民工工资引发群体性事件"),
        basis="保障农民工工资支付条例第四十八条;拖欠农民工工资失信联合惩戒对象名单管理暂行办法(人力资源社会保障部令第45号)",
        months=36,
        ends="expires_on",
        removal="支付拖欠的工资满六个月并作出守信承诺后,可申请提前移出。",
        # 0.5 % of all listings: persons directly responsible, listed in their own right.
        persons=40,
    ),
    Shape(
        code="ZFCGYZ",
        weight=30,
        authority="{city}市示例财政局",
        number="{short}财示例罚〔{year}〕{serial}号",
        reasons=("提供虚假材料谋取中标", "与其他供应商恶意串通", "捏造事实进行投诉"),
        basis="政府采购法第七十七条",
        months=24,
        ends="publicity_until",
        removal="禁止参加政府采购活动的期限届满。",
        sanctions=(
            Sanction(kind="procurement_ban", months=24, weight=7),
            Sanction(kind="procurement_agency_ban", months=24, weight=2),
            Sanction(kind="procurement_complaint_ban", months=24, weight=1),
        ),
    ),
    Shape(
        code="TJYZSX",
        weight=20,
        authority="{city}市示例统计局",
        number="{short}统示例认〔{year}〕{serial}号",
        reasons=("编造虚假统计数据", "拒绝、阻碍统计调查"),
        basis="统计严重失信企业信用管理办法(国家统计局令第35号)",
        months=12,
        ends="publicity_until",
    ),
    Shape(
        code="HGYZSX",
        weight=20,
        authority="南京海关(示例)",
        number="宁关示例认〔{year}〕{serial}号",
        reasons=("犯走私罪", "非法进口固体废物"),
        basis="海关注册登记和备案企业信用管理办法(海关总署令第282号)",
        months=0,
        ends="",
        removal="海关重新认定信用等级。",
    ),
    Shape(
        code="AQSCYZ",
        weight=50,
        authority="{city}市示例应急管理局",
        number="{short}应急示例列〔{year}〕{serial}号",
        reasons=("发生较大生产安全事故", "未取得安全生产许可证擅自生产", "出具虚假安全评价报告"),
        basis="安全生产严重失信主体名单管理办法(应急管理部令第11号)",
        months=36,
        ends="expires_on",
        persons=150,
        sanctions=(
            Sanction(kind="safety_penalty", months=12, weight=6),
            Sanction(kind="safety_agency_revocation", months=60, weight=1, person=False),
            Sanction(kind="safety_post_ban", months=60, weight=3, person=True),
        ),
    ),
    Shape(
        code="SHBXYZ",
        weight=20,
        authority="{city}市示例人力资源和社会保障局",
        number="{short}人社示例险〔{year}〕{serial}号",
        reasons=("以伪造证明材料骗取社会保险基金支出", "不按规定参加社会保险拒不整改"),
        basis="社会保险经办条例第四十五条",
        months=36,
        ends="expires_on",
        persons=200,
    ),
    Shape(
        code="WHLYYZ",
        weight=30,
        authority="{city}市示例文化广电和旅游局",
        number="{short}文旅示例认〔{year}〕{serial}号",
        reasons=("擅自从事旅行社业务", "提供虚假材料取得行政许可", "从事禁止的经营活动造成恶劣影响"),
        basis="文化和旅游市场信用管理规定(文化和旅游部令第7号)",
        months=36,
        ends="expires_on",
        persons=150,
        sanctions=(
            Sanction(kind="culture_penalty", months=12, weight=3),
            Sanction(kind="travel_licence_revocation", months=36, weight=1, person=True),
        ),
    ),
    Shape(
        code="JZSCHM",
        weight=35,
        authority="{city}市示例住房和城乡建设局",
        number="{short}建示例列〔{year}〕{serial}号",
        reasons=("利用虚假材料取得企业资质", "发生转包、违法分包受到行政处罚"),
        basis="建筑市场信用管理暂行办法(建市〔2017〕241号)",
        months=12,
        ends="expires_on",
        persons=60,
        sanctions=(
            Sanction(kind="construction_penalty", months=12, weight=3),
            Sanction(kind="registered_practice_ban", months=60, weight=1, person=True),
        ),
    ),
    Shape(
        code="GFYWYZ",
        weight=5,
        authority="{city}市示例区人民政府",
        number="{short}示例征〔{year}〕{serial}号",
        reasons=("拒绝、逃避征集服现役,拒不改正",),
        basis="兵役法第五十七条",
        months=0,
        ends="",
        persons=1000,
    ),
    Shape(
        code="KYCXYZ",
        weight=5,
        authority="{city}市示例科学技术局",
        number="{short}科示例诚〔{year}〕{serial}号",
        reasons=("在科研项目申报中伪造研究数据", "抄袭、剽窃他人研究成果"),
        basis="科学技术进步法第一百零七条",
        months=60,
        ends="expires_on",
        persons=500,
        sanctions=(Sanction(kind="research_funding_ban", months=36),),
    ),
)
"""All thirteen list types of the example catalogues."""
