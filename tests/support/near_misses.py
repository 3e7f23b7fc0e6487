"""Pairs of texts that differ in one thing that matters, from templates: for the guard, which must see it.

`SEEN` was there while the guard was written; `HELD` was written after it, and nothing was changed for it.
"""

NUMBERS = [
    ("3", "5"),
    ("12", "21"),
    ("two", "four"),
    ("1,000", "10,000"),
    ("7", "eight"),
    ("2.5", "3.5"),
    ("100", "90"),
    ("15", "50"),
]
ZH_NUMBERS = [
    ("3", "5"),
    ("三", "七"),
    ("十二", "二十"),
    ("100", "200"),
    ("一百二十", "一百三十"),
    ("8", "九"),
    ("2.5", "3.5"),
    ("1万", "3万"),
]
CITIES = [
    ("Paris", "Rome"),
    ("Lagos", "Accra"),
    ("Boston", "Denver"),
    ("Oslo", "Helsinki"),
    ("Kyoto", "Osaka"),
    ("Lima", "Quito"),
]
PEOPLE = [
    ("Marie Curie", "Ada Lovelace"),
    ("Mozart", "Beethoven"),
    ("Picasso", "Dali"),
    ("Darwin", "Mendel"),
    ("Kafka", "Orwell"),
]
FIRMS = [("Nokia", "Siemens"), ("Netflix", "Spotify"), ("Boeing", "Airbus"), ("Intel", "AMD"), ("Pfizer", "Moderna")]
ZH_CITIES = [("北京", "上海"), ("成都", "重庆"), ("苏州", "扬州"), ("东京", "大阪"), ("绍兴", "嘉兴"), ("柳州", "赣州")]
ZH_PEOPLE = [
    ("李白", "杜甫"),
    ("鲁迅", "老舍"),
    ("王小明", "张大伟"),
    ("爱因斯坦", "牛顿"),
    ("莫扎特", "肖邦"),
    ("曹操", "刘备"),
]
ZH_FIRMS = [("华为", "小米"), ("阿里巴巴", "腾讯"), ("京东", "拼多多"), ("宝马", "奔驰"), ("顺丰", "圆通")]

SEEN = {
    ("negation", "en"): [
        ("Can I {x} with a fever?", [("swim", "not swim"), ("fly", "not fly"), ("run", "not run")]),
        ("Which countries {x} NATO?", [("are in", "are not in"), ("joined", "never joined")]),
        ("Why {x} the tomato plant grow?", [("does", "doesn't"), ("will", "won't"), ("would", "wouldn't")]),
        ("{x} touch the red button", [("Always", "Never"), ("Please", "Please do not")]),
        ("List the employees who {x} the safety training.", [("finished", "did not finish"), ("have done", "haven't done")]),
        ("What happens if I {x} my taxes on time?", [("pay", "don't pay"), ("file", "never file")]),
        ("Bake a cake {x} eggs", [("with", "without")]),
        ("Is it true that penguins {x} fly?", [("can", "cannot"), ("can", "can't")]),
        ("The server {x} responding, what now?", [("is", "isn't"), ("is", "is not")]),
        ("Show orders that {x} shipped", [("were", "were not"), ("have been", "have not been"), ("got", "never got")]),
        ("I {x} want the invoice sent to my boss", [("do", "do not"), ("really", "don't")]),
        ("foods {x} gluten", [("containing", "not containing"), ("with", "without"), ("with", "with no")]),
        ("Should children {x} have phones at school?", [("", "not"), ("ever", "never")]),
    ],
    ("negation", "zh"): [
        ("发烧的时候{x}洗澡吗", [("可以", "不可以"), ("能", "不能")]),
        ("哪些国家{x}联合国成员", [("是", "不是")]),
        ("为什么我的电脑{x}启动", [("能", "不能"), ("会", "不会")]),
        ("{x}打开这个文件", [("请", "请不要"), ("", "别")]),
        ("列出{x}完成培训的员工", [("已经", "没有"), ("已", "未")]),
        ("如果{x}按时交税会怎样", [("我", "我不"), ("", "没")]),
        ("做一个{x}糖的蛋糕", [("有", "没有"), ("加", "不加")]),
        ("这个药孕妇{x}吃", [("能", "不能"), ("可以", "不可以")]),
        ("订单{x}发货怎么办", [("已", "未"), ("已经", "没有")]),
        ("我{x}参加明天的会议", [("会", "不会"), ("想", "不想"), ("要", "不要")]),
        ("企鹅{x}飞是真的吗", [("会", "不会")]),
        ("哪些食物{x}麸质", [("含", "不含"), ("有", "没有")]),
    ],
    ("number", "en"): [
        ("How do I save {x} dollars in a month?", NUMBERS), ("Give me {x} ideas for a birthday party", NUMBERS),
        ("What is the square root of {x}?", NUMBERS), ("Recipe for {x} people", NUMBERS),
        ("Write a poem of {x} lines", NUMBERS), ("the patient takes {x} pills every morning", NUMBERS),
        ("Book a table for {x} at seven", [("two", "six"), ("3", "5"), ("ten", "nine")]),
        ("Is a fever of {x} degrees dangerous?", [("38", "40"), ("39", "41")]),
        ("What changed in version {x}?", [("2.1", "2.2"), ("3.0", "4.0"), ("1.9", "1.10")]),
        ("Explain chapter {x} of the book", [("3", "4"), ("two", "three"), ("IV", "VI")]),
        ("a discount of {x} on shoes", [("10%", "20%"), ("5 percent", "15 percent")]),
        ("Who won the world cup in {x}?", [("2010", "2014"), ("1998", "2002")]),
        ("{x} workers need how many helmets?", [("20", "30"), ("Twelve", "Fifteen")]),
        ("Meet me at {x} tomorrow", [("3pm", "5pm"), ("10:30", "11:30")]),
    ],
    ("number", "zh"): [
        ("怎么在一个月内存{x}块钱", ZH_NUMBERS), ("给我{x}个生日聚会的点子", ZH_NUMBERS), ("{x}的平方根是多少", ZH_NUMBERS),
        ("写一首{x}行的诗", ZH_NUMBERS), ("{x}个人需要多少米饭", ZH_NUMBERS), ("每天吃{x}片药可以吗", ZH_NUMBERS),
        ("预订{x}位的餐桌", [("两", "六"), ("3", "5"), ("十", "九")]), ("发烧{x}度危险吗", [("38", "40"), ("39", "41")]),
        ("{x}版本有哪些变化", [("2.1", "2.2"), ("3.0", "4.0")]), ("请解释第{x}章", [("三", "四"), ("2", "3")]),
        ("打{x}折是多少钱", [("七", "八"), ("5", "6")]), ("{x}年的世界杯谁赢了", [("2010", "2014"), ("一九九八", "二〇〇二")]),
        ("会议改到{x}点", [("三", "四"), ("10", "11")]),
    ],
    ("entity", "en"): [
        ("What is the weather like in {x} today?", CITIES), ("cheap flights to {x}", CITIES), ("{x} is a nice place to live", CITIES),
        ("How old is {x}?", PEOPLE), ("Who was the teacher of {x}?", PEOPLE), ("What did {x} discover?", PEOPLE),
        ("a short biography of {x}", PEOPLE), ("Should I buy shares of {x}?", FIRMS), ("Who runs {x} now?", FIRMS),
        ("Does {x} pay its interns well?", FIRMS), ("Who wrote {x}?", [("Hamlet", "Ulysses"), ("Emma", "Dracula")]),
        ("When was the University of {x} founded?", CITIES), ("Compare {x} with its competitors", FIRMS),
        ('Summarise "{x}" for me', [("The Trial", "The Castle"), ("Moby Dick", "Don Quixote")]),
    ],
    ("entity", "zh"): [
        ("{x}今天天气怎么样", ZH_CITIES), ("去{x}的便宜机票", ZH_CITIES), ("我想搬到{x}生活", ZH_CITIES), ("{x}多大年纪了", ZH_PEOPLE),
        ("{x}的老师是谁", ZH_PEOPLE), ("介绍一下{x}的生平", ZH_PEOPLE), ("{x}有哪些代表作品", ZH_PEOPLE), ("{x}的股票值得买吗", ZH_FIRMS),
        ("现在{x}的总裁是谁", ZH_FIRMS), ("{x}公司实习工资高吗", ZH_FIRMS), ("《{x}》的作者是谁", [("红楼梦", "西游记"), ("活着", "围城")]),
        ("{x}大学哪年成立的", [("清华", "复旦"), ("浙江", "南京"), ("武汉", "四川")]), ("{x}的首都在哪里", [("法国", "德国"), ("智利", "秘鲁")]),
    ],
    ("unit", "en"): [
        ("How far is 10 {x}?", [("km", "miles"), ("kilometres", "nautical miles"), ("metres", "feet")]),
        ("What is my height in {x}?", [("centimetres", "inches"), ("feet", "metres")]),
        ("Take 5 {x} of this syrup", [("ml", "litres"), ("milligrams", "grams"), ("mg", "g")]),
        ("The file is 20 {x} large", [("MB", "GB"), ("kilobytes", "megabytes")]),
        ("How long is 90 {x} in words?", [("seconds", "minutes"), ("hours", "days")]),
        ("It costs 30 {x}", [("dollars", "euros"), ("pounds", "yen"), ("USD", "EUR")]),
        ("Set the oven to 180 {x}", [("Celsius", "Fahrenheit"), ("°C", "°F")]),
        ("a bag of 2 {x} of rice", [("kg", "pounds"), ("kilograms", "ounces")]),
        ("salary of 4000 per {x}", [("month", "week"), ("year", "day")]),
        ("a plot of 3 {x}", [("acres", "hectares")]), ("drive at 60 {x}", [("mph", "kmh"), ("km/h", "mph")]),
        ("a power of 5 {x}", [("watts", "kilowatts"), ("kW", "MW")]), ("print the weight in {x}", [("kg", "lbs"), ("grams", "ounces")]),
    ],
    ("unit", "zh"): [
        ("10{x}有多远", [("公里", "英里"), ("米", "公里"), ("千米", "海里")]), ("我的身高是多少{x}", [("厘米", "英寸"), ("米", "英尺")]),
        ("这个药每次吃5{x}", [("毫升", "升"), ("毫克", "克")]), ("文件大小是20{x}", [("MB", "GB"), ("兆", "KB")]),
        ("跑步90{x}能消耗多少热量", [("分钟", "秒"), ("小时", "分钟")]), ("这件衣服30{x}", [("美元", "人民币"), ("欧元", "日元")]),
        ("烤箱温度调到180{x}", [("摄氏度", "华氏度")]), ("买2{x}大米", [("公斤", "斤"), ("千克", "磅")]),
        ("每{x}工资4000", [("月", "周"), ("年", "天")]), ("3{x}土地", [("亩", "公顷")]), ("功率是5{x}", [("瓦", "千瓦")]),
        ("用{x}表示重量", [("公斤", "磅"), ("克", "盎司")]), ("住院3{x}要花多少钱", [("天", "周"), ("个月", "年")]),
    ],
    ("direction", "en"): [
        ("How do I get from {x} to {y} by bus?", [(a, b) for a, b in CITIES]), ("Convert {x} to {y}", [("Celsius", "Kelvin"), ("PDF", "Word"), ("miles", "metres")]),
        ("Translate this from {x} to {y}", [("English", "German"), ("Spanish", "Polish")]), ("Is {x} bigger than {y}?", CITIES),
        ("How can I {x} my blood pressure?", [("raise", "lower"), ("increase", "decrease")]),
        ("Do I eat {x} the workout?", [("before", "after")]), ("What is the {x} phone of the year?", [("best", "worst"), ("cheapest", "most expensive")]),
        ("Should I {x} gold now?", [("buy", "sell")]), ("How to turn the volume {x}", [("up", "down")]), ("Did {x} beat {y} last night?", [("Arsenal", "Chelsea"), ("Spain", "Italy")]),
        ("Who lent money to {x}: the {y} owes it", [("bank", "farmer")]), ("sort the list in {x} order", [("ascending", "descending")]),
        ("How do I {x} dark mode?", [("enable", "disable"), ("turn on", "turn off")]), ("Send 5 coins from {x} to {y}", [("Alice", "Bob"), ("Tom", "Ann")]),
        ("Which way is {x}?", [("north", "south"), ("left", "right")]),
    ],
    ("direction", "zh"): [
        ("从{x}到{y}怎么走", ZH_CITIES), ("把{x}转换成{y}", [("摄氏度", "华氏度"), ("PDF", "Word")]), ("把这段话从{x}翻译成{y}", [("英语", "德语"), ("法语", "日语")]),
        ("{x}比{y}大吗", ZH_CITIES), ("怎样{x}血压", [("升高", "降低"), ("提高", "降低")]), ("{x}运动要吃东西吗", [("之前", "之后")]),
        ("今年{x}的手机是哪款", [("最好", "最差"), ("最贵", "最便宜")]), ("现在应该{x}黄金吗", [("买入", "卖出"), ("买", "卖")]), ("怎么把音量调{x}", [("高", "低"), ("大", "小")]),
        ("{x}队打败了{y}队吗", [("巴西", "法国"), ("山东", "广东")]), ("按{x}排列", [("升序", "降序")]), ("如何{x}深色模式", [("打开", "关闭"), ("启用", "禁用")]),
        ("{x}给{y}转账五百元", [("小王", "小李"), ("张三", "李四")]), ("房价会{x}吗", [("上涨", "下跌"), ("涨", "跌")]),
    ],
}  # fmt: skip

HELD = {
    ("negation", "en"): [
        ("Does the warranty {x} water damage?", [("cover", "not cover")]), ("Find users who {x} logged in this year", [("have", "have not"), ("have", "haven't")]),
        ("My landlord {x} return the deposit. Options?", [("will", "will not"), ("did", "didn't")]), ("{x} share my address with the courier", [("Do", "Do not"), ("You may", "You may not")]),
        ("Which of these planets {x} rings?", [("has", "has no"), ("have", "do not have")]), ("a contract that {x} be cancelled", [("can", "cannot"), ("may", "may not")]),
        ("how to cook beans {x} soaking them", [("after", "without"), ("by", "without")]), ("I was {x} invited to the wedding; what do I write?", [("", "not"), ("kindly", "never")]),
        ("Reply that we {x} accept the offer.", [("can", "can't"), ("do", "don't")]), ("Is there {x} evidence for the claim?", [("some", "no")]),
        ("Explain why water {x} compressible", [("is", "is not"), ("is", "isn't")]), ("Are the results {x} significant?", [("", "not")]),
    ],
    ("negation", "zh"): [
        ("保修{x}进水损坏吗", [("包括", "不包括")]), ("查找今年{x}登录的用户", [("有", "没有"), ("曾经", "从未")]), ("房东{x}退押金怎么办", [("会", "不会"), ("肯", "不肯")]),
        ("{x}把我的地址给快递员", [("请", "请勿"), ("可以", "不可以")]), ("哪颗行星{x}光环", [("有", "没有")]), ("合同{x}取消", [("可以", "不可以"), ("能", "不能")]),
        ("煮豆子{x}泡水行吗", [("先", "不")]), ("我{x}被邀请参加婚礼", [("", "没有"), ("也", "没")]), ("回复说我们{x}接受这个报价", [("可以", "不"), ("愿意", "不愿意")]),
        ("解释水为什么{x}压缩", [("可以", "不可以"), ("能", "无法")]), ("结果{x}显著吗", [("很", "不")]), ("这款软件{x}支持中文", [("", "不")]),
    ],
    ("number", "en"): [
        ("Name {x} rivers in Europe", NUMBERS), ("My flat has {x} rooms, how do I heat it?", NUMBERS), ("How many hours are {x} days?", NUMBERS),
        ("Please shorten the text to {x} words", NUMBERS), ("loan over {x} years at a fixed rate", NUMBERS), ("Divide 360 by {x}", NUMBERS),
        ("Is {x} mg of caffeine too much?", [("200", "400"), ("50", "500")]), ("the {x} president of the country", [("third", "fifth"), ("2nd", "12th")]),
        ("train number {x} to the airport", [("12", "14"), ("701", "107")]), ("What happened on May {x}, 1945?", [("8", "9"), ("2nd", "12th")]),
        ("Reminder for {x} in the evening", [("7:15", "7:45"), ("8 pm", "9 pm")]), ("{x} is what share of 80?", [("20", "40"), ("Five", "Eight")]),
    ],
    ("number", "zh"): [
        ("说出欧洲的{x}条河流", ZH_NUMBERS), ("我家有{x}个房间怎么取暖", ZH_NUMBERS), ("{x}天是多少小时", ZH_NUMBERS), ("把文章缩短到{x}字", ZH_NUMBERS),
        ("贷款{x}年利息多少", ZH_NUMBERS), ("360除以{x}等于几", ZH_NUMBERS), ("一天喝{x}毫克咖啡因多吗", [("200", "400")]), ("历史上第{x}任总统是谁", [("三", "五"), ("12", "22")]),
        ("去机场的{x}路公交", [("12", "14"), ("七", "九")]), ("1945年5月{x}日发生了什么", [("8", "9")]), ("晚上{x}点提醒我", [("七", "八"), ("9", "10")]), ("百分之{x}的人同意", [("二十", "三十")]),
    ],
    ("entity", "en"): [
        ("Is the tap water in {x} safe?", CITIES), ("Where can tourists park near {x} station?", CITIES), ("mayor of {x}", CITIES), ("Which prize did {x} receive?", PEOPLE),
        ("I am reading about {x}, where do I start?", PEOPLE), ("{x} was born in which town?", PEOPLE), ("Cancel my {x} subscription", FIRMS), ("Is {x} hiring engineers?", FIRMS),
        ("annual report of {x} in one page", FIRMS), ("Tell me the plot of {x}", [("Inception", "Titanic"), ("Jaws", "Alien")]), ("How deep is Lake {x}?", [("Baikal", "Victoria"), ("Tahoe", "Como")]),
        ("what does {x} do in Linux", [("grep", "chmod"), ("awk_run()", "sed_run()")]), ("Is vitamin {x} good for bones?", [("D", "K"), ("C", "E")]),
    ],
    ("entity", "zh"): [
        ("{x}的自来水能直接喝吗", ZH_CITIES), ("{x}火车站附近哪里停车", ZH_CITIES), ("{x}市市长是谁", ZH_CITIES), ("{x}得过什么奖", ZH_PEOPLE), ("我想了解{x}从哪里开始", ZH_PEOPLE),
        ("{x}出生在哪里", ZH_PEOPLE), ("怎么取消{x}会员", ZH_FIRMS), ("{x}招聘工程师吗", ZH_FIRMS), ("{x}年报摘要", ZH_FIRMS), ("讲讲电影{x}的剧情", [("霸王别姬", "无间道"), ("英雄", "十面埋伏")]),
        ("{x}湖有多深", [("青海", "洞庭"), ("鄱阳", "太")]), ("{x}省有多少人口", [("河南", "四川"), ("山东", "山西")]),
    ],
    ("unit", "en"): [
        ("The rope measures 40 {x}", [("yards", "metres"), ("cm", "mm")]), ("Give the distance in {x}, please", [("miles", "kilometres")]), ("drink 2 {x} a day", [("litres", "gallons"), ("cups", "pints")]),
        ("a parcel weighing 500 {x}", [("g", "kg"), ("grams", "pounds")]), ("wait 10 {x} and retry", [("seconds", "minutes"), ("ms", "s")]), ("How much is 100 {x} today?", [("yuan", "rupees"), ("pesos", "francs")]),
        ("It was minus 20 {x} outside", [("Celsius", "Fahrenheit")]), ("warranty of 2 {x}", [("years", "months"), ("weeks", "days")]), ("a battery of 50 {x}", [("kWh", "kJ"), ("volts", "watts")]),
        ("download limit of 5 {x}", [("GB", "TB"), ("Mbps", "Gbps")]), ("area of 80 square {x}", [("metres", "feet")]), ("rent per {x}", [("week", "month")]),
    ],
    ("unit", "zh"): [
        ("绳子长40{x}", [("码", "米"), ("厘米", "毫米")]), ("请用{x}给出距离", [("英里", "公里")]), ("每天喝2{x}水", [("升", "毫升"), ("杯", "加仑")]), ("包裹重500{x}", [("克", "千克"), ("斤", "磅")]),
        ("等待10{x}再试", [("秒", "分钟"), ("毫秒", "小时")]), ("100{x}今天值多少", [("卢比", "比索"), ("英镑", "欧元")]), ("外面零下20{x}", [("摄氏度", "华氏度")]), ("保修2{x}", [("年", "个月"), ("周", "天")]),
        ("电池容量50{x}", [("千瓦时", "毫安时"), ("伏", "瓦")]), ("流量上限5{x}", [("GB", "TB")]), ("面积80{x}", [("平方米", "平方英尺"), ("亩", "公顷")]), ("房租按{x}付", [("周", "月")]),
    ],
    ("direction", "en"): [
        ("Is the train from {x} to {y} late?", CITIES), ("Which is older, {x}? Older than {y}?", [("Rome", "Athens")]), ("Import data from {x} into {y}", [("Excel", "Oracle"), ("Redis", "Kafka")]),
        ("Why did {x} attack {y}?", [("Athens", "Sparta"), ("Rome", "Carthage")]), ("The dollar went {x} today, why?", [("up", "down")]), ("Does the {x} exceed the {y}?", [("income", "tax")]),
        ("Reasons to {x} the offer", [("accept", "reject"), ("approve", "deny")]), ("Name the {x} mountain on Earth", [("highest", "lowest"), ("largest", "smallest")]), ("Take the {x} lane", [("left", "right"), ("outer", "inner")]),
        ("how to {x} a file to the server", [("upload", "download"), ("add", "remove")]), ("the {x} page of the report", [("first", "last"), ("previous", "next")]), ("Can {x} sue {y}?", [("Google", "Oracle"), ("Bob", "Carol")]),
    ],
    ("direction", "zh"): [
        ("{x}到{y}的火车晚点了吗", ZH_CITIES), ("把数据从{x}导入{y}", [("Excel", "Oracle"), ("Redis", "Kafka")]), ("{x}为什么攻打{y}", [("雅典", "斯巴达"), ("罗马", "迦太基")]), ("今天美元为什么{x}了", [("涨", "跌"), ("上升", "下降")]),
        ("{x}会超过{y}吗", [("收入", "税款")]), ("{x}这个报价的理由", [("接受", "拒绝")]), ("世界上{x}的山", [("最高", "最低"), ("最大", "最小")]), ("走{x}车道", [("左边", "右边"), ("外侧", "内侧")]),
        ("怎么{x}文件", [("上传", "下载"), ("添加", "删除")]), ("报告的{x}", [("上一页", "下一页"), ("首页", "末页")]), ("{x}可以起诉{y}吗", [("谷歌", "微软"), ("张三", "李四")]), ("{x}欠{y}多少钱", [("小王", "小李"), ("甲方", "乙方")]),
    ],
}  # fmt: skip


def pairs(templates):
    """(kind, language, one, other) of every template with everything that goes into it."""
    for (kind, language), frames in templates.items():
        for frame, fillings in frames:
            for filling in fillings:
                for one, other in _made(frame, *filling):
                    yield kind, language, one, other


def _made(frame, x, y):
    if "{y}" in frame:
        yield _text(frame, x=x, y=y), _text(frame, x=y, y=x)
    else:
        yield _text(frame, x=x), _text(frame, x=y)


def _text(frame, **slots):
    return " ".join(frame.format(**slots).split())
