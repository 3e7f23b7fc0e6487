"""Pairs of texts for the guard, a line each, with " ~ " between: what it must tell apart by kind and by language, and what
says one thing in two ways. `HELD` pairs were written after the guard's words and rules, and nothing was changed for them.
"""

DIFFERENT = {
    "comparison": """
users with age > 30 ~ users with age < 30
users with age >= 30 ~ users with age <= 30
items with price > 100 ~ items with price >= 100
price ≥ 100 ~ price ≤ 100
select users where age < 18 ~ select users where age >= 18
rows where status = 'open' ~ rows where status != 'open'
if x == y ~ if x != y
orders with total>50 ~ orders with total<50
""",
    "arithmetic and logic": """
What is 8 + 2? ~ What is 8 - 2?
What is 8 * 2 ~ What is 8 + 2
x += 1 ~ x -= 1
i++ in a loop ~ i-- in a loop
mask & flags ~ mask | flags
ready && armed ~ ready || armed
if (!ready) wait() ~ if (ready) wait()
""",
    "operands": """
What does a - b give? ~ What does b - a give?
return a / b ~ return b / a
divide(a, b) ~ divide(b, a)
range(1, 10) ~ range(10, 1)
subtract x from y ~ subtract y from x
sort from A-Z ~ sort from Z-A
revenue - cost ~ cost - revenue
""",
    "and, or": """
if x and y then stop ~ if x or y then stop
Do you serve tea and coffee? ~ Do you serve tea or coffee?
I need a visa and a passport ~ I need a visa or a passport
I need a visa and a passport ~ I need a visa and / or a passport
tickets for two adults and a child ~ tickets for two adults or a child
delete all files and folders older than a week ~ delete all files or folders older than a week
""",
    "to, from, before, since": """
show emails from Bob ~ show emails to Bob
letters from my aunt ~ letters to my aunt
refunds to customers ~ refunds from customers
files created before noon ~ files created since noon
open until noon ~ open after noon
valid since May ~ valid until May
closed before Monday ~ closed after Monday
reduced by 10% ~ reduced to 10%
votes for the bill ~ votes against the bill
coffee with sugar ~ coffee without sugar
""",
    "who does it to whom": """
Has my neighbour reported me? ~ Have I reported my neighbour?
I owe Bob money ~ Bob owes me money
I owe Bob ~ Bob owes me
Did Ann hire Tom? ~ Did Tom hire Ann?
Who hired Tom? ~ Who did Tom hire?
Was Tom hired by Ann? ~ Did Tom hire Ann?
My landlord sued me ~ I sued my landlord
Does my boss owe me money? ~ Do I owe my boss money?
She likes him ~ He likes her
Does the dog bite the man? ~ Does the man bite the dog?
""",
    "units as written": """
How long to download 10 Mb? ~ How long to download 10 MB?
a 100 Gb link ~ a 100 GB link
a plant of 5 mW ~ a plant of 5 MW
charge at 500 mA ~ charge at 500 MA
dose of 5 mg ~ dose of 5 Mg
1 MHz clock ~ 1 mHz clock
10M users ~ 10 m users
convert Mb to GB ~ convert MB to GB
""",
    "commands and sections": """
chmod +x run.sh ~ chmod -x run.sh
set -e in bash ~ set +e in bash
docker run -d nginx ~ docker run nginx
docker run -d nginx ~ docker run -it nginx
grep -i error log.txt ~ grep -v error log.txt
ls -l ~ ls -a
git reset --hard HEAD ~ git reset --soft HEAD
git push --force ~ git push
tar -xzf a.tgz ~ tar -czf a.tgz
kubectl delete pod web -n dev ~ kubectl delete pod web -n prod
section (a) of the contract ~ section (b) of the contract
clause (ii) of the lease ~ clause (iii) of the lease
causes of World War I ~ causes of World War II
Type I error ~ Type II error
Elizabeth I biography ~ Elizabeth II biography
""",
    "opposites": """
Is it safe to swim here? ~ Is it unsafe to swim here?
Are dogs allowed on the train? ~ Are dogs banned on the train?
Are pets allowed? ~ Are pets prohibited?
grant access to the folder ~ revoke access to the folder
accept the invitation ~ decline the invitation
pause my subscription ~ resume my subscription
pause the campaign ~ unpause the campaign
mute the microphone ~ unmute the microphone
freeze my card ~ unfreeze my card
unsubscribe me from the list ~ subscribe me to the list
How do I opt in to emails? ~ How do I opt out of emails?
opt-in emails ~ opt-out emails
How do I log in? ~ How do I log out?
How do I check in online? ~ How do I check out online?
zoom in ~ zoom out
turn the heating on ~ turn the heating off
scale up the cluster ~ scale down the cluster
inbound calls ~ outbound calls
prepaid plans ~ postpaid plans
an overcharge on my bill ~ an undercharge on my bill
whitelist the address ~ blacklist the address
harmful plants ~ harmless plants
employer contribution ~ employee contribution
What should I eat before surgery? ~ What should I avoid eating before surgery?
How do I stop getting emails? ~ How do I get emails?
""",
    "German": """
Darf ich den Hund mitbringen? ~ Darf ich den Hund nicht mitbringen?
Kann man Hunden Schokolade geben? ~ Kann man Hunden keine Schokolade geben?
Ich habe einen Vertrag ~ Ich habe keinen Vertrag
Hunde füttern ~ Hunde nicht füttern
Kaffee mit Zucker ~ Kaffee ohne Zucker
Tee und Kaffee ~ Tee oder Kaffee
""",
    "French": """
Puis-je annuler ma commande ? ~ Puis-je ne pas annuler ma commande ?
Le magasin est ouvert le dimanche ~ Le magasin n'est pas ouvert le dimanche
Je veux recevoir la newsletter ~ Je ne veux plus recevoir la newsletter
un gâteau avec du sucre ~ un gâteau sans sucre
du thé et du café ~ du thé ou du café
""",
    "Spanish": """
Puedo viajar con mi perro ~ No puedo viajar con mi perro
El pedido ha llegado ~ El pedido no ha llegado
La tienda siempre abre los lunes ~ La tienda nunca abre los lunes
té y café ~ té o café
""",
    "Portuguese": """
É permitido fumar aqui ~ Não é permitido fumar aqui
Posso cancelar o meu pedido? ~ Não posso cancelar o meu pedido?
A loja abre ao domingo ~ A loja não abre ao domingo
café com açúcar ~ café sem açúcar
""",
    "Italian": """
Posso annullare il mio ordine? ~ Non posso annullare il mio ordine?
Il negozio è aperto la domenica ~ Il negozio non è aperto la domenica
una torta con uova ~ una torta senza uova
""",
    "Russian": """
Можно ли отменить заказ? ~ Можно ли не отменять заказ?
Магазин работает в воскресенье ~ Магазин не работает в воскресенье
Мне нужен паспорт ~ Мне не нужен паспорт
это безопасно? ~ это небезопасно?
чай и кофе ~ чай или кофе
""",
    "Japanese": """
この薬は空腹時に飲めます ~ この薬は空腹時に飲めません
ここで写真を撮ってもいいですか ~ ここで写真を撮ってはいけません
注文をキャンセルしたい ~ 注文をキャンセルしたくない
店は日曜日に開いている ~ 店は日曜日に開いていない
""",
    "Korean": """
이 약을 공복에 먹어도 되나요? ~ 이 약을 공복에 먹으면 안 되나요?
주문을 취소하고 싶어요 ~ 주문을 취소하고 싶지 않아요
가게는 일요일에 문을 엽니다 ~ 가게는 일요일에 문을 열지 않습니다
회의에 참석합니다 ~ 회의에 참석하지 않습니다
""",
    "Arabic": """
هل يمكن إلغاء الطلب؟ ~ هل لا يمكن إلغاء الطلب؟
المتجر مفتوح يوم الأحد ~ المتجر ليس مفتوح يوم الأحد
أريد استلام الرسائل ~ لا أريد استلام الرسائل
قهوة مع سكر ~ قهوة بدون سكر
""",
    "Turkish": """
Burada sigara içilir ~ Burada sigara içilmez
Siparişimi iptal edebilir miyim? ~ Siparişimi iptal edemez miyim?
Mağaza pazar günü açık ~ Mağaza pazar günü açık değil
Bu ilaç aç karnına alınır mı? ~ Bu ilaç aç karnına alınmaz mı?
Toplantıya katılacağım ~ Toplantıya katılmayacağım
Faturayı ödedim ~ Faturayı ödemedim
""",
    "more languages": """
Ik wil mijn bestelling annuleren ~ Ik wil mijn bestelling niet annuleren
Sklep jest otwarty w niedzielę ~ Sklep nie jest otwarty w niedzielę
Butiken är öppen på söndag ~ Butiken är inte öppen på söndag
苹果和香蕉 ~ 苹果或香蕉
""",
}

SAME = """
age > 30 ~ age greater than 30
Show users with age > 30 ~ List users with age > 30
price >= 100 ~ price ≥ 100
x == 5 ~ x === 5
Do you serve tea and coffee? ~ Do you serve coffee and tea?
R&D budget ~ R & D budget
How do I get from Oslo to Bergen? ~ How do I get to Bergen from Oslo?
letters to my aunt from my uncle ~ letters from my uncle to my aunt
emails from Bob ~ emails that Bob sent
How do I log in? ~ How can I log in?
10 MB file ~ 10 megabytes file
10 mb ~ 10 MB
8 Mb ~ 1 MB
What is 5*3? ~ What is 5 × 3?
Alice hired Bob ~ Bob was hired by Alice
Who invented the telephone? ~ Who was the inventor of the telephone?
Does Bob owe me money? ~ Does Bob owe money to me?
chmod +x run.sh ~ How do I chmod +x run.sh
How do I use ls -l? ~ What does ls -l do?
World War 1 ~ World War I
World War II ~ World War 2
section (a) ~ section (A)
Hello! How do I reset my password? ~ Hello, how do I reset my password?
Thanks! Where is my order? ~ Where is my order?
- reset my password ~ reset my password
**Where** is my order? ~ Where is my order?
How do I turn on bluetooth? ~ How to turn bluetooth on?
Can I bring a dog or a cat? ~ Can I bring a cat or a dog?
files created after noon ~ files created since noon
fifty pounds to my savings ~ £50 to my savings
table for two at seven ~ table for two at 7pm
Is coffee bad for you? ~ Isn't coffee bad for you?
How do I unlock my phone? ~ How can I unlock my phone?
Wie kann ich mein Passwort ändern? ~ Wie ändere ich mein Passwort?
Wo ist mein Paket? ~ Wo befindet sich mein Paket?
Warum nicht heute? ~ Warum nicht heute ?
Comment annuler ma commande ? ~ Comment puis-je annuler ma commande ?
Où est mon colis ? ~ Où se trouve mon colis ?
Je ne peux pas me connecter ~ Je peux pas me connecter
¿Cómo cancelo mi pedido? ~ ¿Cómo puedo cancelar mi pedido?
Como cancelo o meu pedido? ~ Como posso cancelar o meu pedido?
Come annullo il mio ordine? ~ Come posso annullare il mio ordine?
Как отменить заказ? ~ Как мне отменить заказ?
パスワードを変更する方法 ~ パスワードの変更方法
教えてくれませんか ~ 教えてください
비밀번호를 어떻게 변경하나요? ~ 비밀번호 변경 방법
كيف ألغي طلبي؟ ~ كيف يمكنني إلغاء طلبي؟
Siparişimi nasıl iptal ederim? ~ Siparişimi nasıl iptal edebilirim?
"""

HELD = {
    "signs": """
temperature <= 0 ~ temperature < 0
filter rows where score<0.5 ~ filter rows where score>0.5
100 - 7 ~ 100 + 7
salary - bonus ~ bonus - salary
pow(base, exponent) ~ pow(exponent, base)
replace(old, new) in Python ~ replace(new, old) in Python
curl -o page.html ~ curl -O page.html
rm -r build ~ rm -i build
npm install --global eslint ~ npm install eslint
exercise (c) of chapter 4 ~ exercise (d) of chapter 4
Phase I trial results ~ Phase II trial results
a hard disk of 2 Tb ~ a hard disk of 2 TB
""",
    "small words": """
Is the museum open on Saturdays and Sundays? ~ Is the museum open on Saturdays or Sundays?
calls from the bank ~ calls to the bank
invoices sent before March ~ invoices sent since March
trains to Leeds ~ trains from Leeds
arguments for nuclear power ~ arguments against nuclear power
Who called my sister? ~ Who did my sister call?
Was the letter signed by the mayor? ~ Did the letter sign the mayor?
Have the Smiths invited us? ~ Have we invited the Smiths?
Is my tenant suing me? ~ Am I suing my tenant?
""",
    "opposites": """
Is this mushroom edible? ~ Is this mushroom inedible?
Is the app compatible with my phone? ~ Is the app incompatible with my phone?
connect the printer ~ disconnect the printer
block this caller ~ unblock this caller
an upgrade of my seat ~ a downgrade of my seat
Is smoking permitted on the balcony? ~ Is smoking forbidden on the balcony?
activate roaming ~ deactivate roaming
sign me in ~ sign me out
Is parking free on Sunday? ~ Is parking paid on Sunday?
renew my membership ~ cancel my membership
""",
    "languages": """
Ich möchte das Abo verlängern ~ Ich möchte das Abo nicht verlängern
Gibt es eine Gebühr? ~ Gibt es keine Gebühr?
On peut fumer ici ~ On ne peut pas fumer ici
Il y a du lait dans ce plat ~ Il n'y a pas de lait dans ce plat
Se puede fumar aquí ~ No se puede fumar aquí
La tarjeta funciona en Francia ~ La tarjeta no funciona en Francia
O cartão funciona na França ~ O cartão não funciona na França
La carta funziona in Francia ~ La carta non funziona in Francia
Si può fumare qui ~ Non si può fumare qui
É seguro nadar aqui ~ Não é seguro nadar aqui
Eu quero receber a fatura ~ Eu não quero receber a fatura
Bu köpek ısırır ~ Bu köpek ısırmaz
Uçuş iptal edildi ~ Uçuş iptal edilmedi
Здесь можно курить ~ Здесь нельзя курить
Карта работает во Франции ~ Карта не работает во Франции
このカードはフランスで使えます ~ このカードはフランスで使えません
予約は必要です ~ 予約は必要ではない
이 카드는 프랑스에서 쓸 수 있어요 ~ 이 카드는 프랑스에서 쓸 수 없어요
저는 고기를 먹어요 ~ 저는 고기를 안 먹어요
التدخين مسموح هنا ~ التدخين غير مسموح هنا
البطاقة تعمل في فرنسا ~ البطاقة لا تعمل في فرنسا
Kartım Fransa'da çalışıyor ~ Kartım Fransa'da çalışmıyor
""",
}


def pairs(lines):
    """(one, other) of each line."""
    return [tuple(line.split(" ~ ")) for line in lines.strip().splitlines()]
