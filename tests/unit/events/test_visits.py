"""Where a visit came from: tables of addresses and referrers, with what GA4 and Shopify's reports call them."""

from __future__ import annotations

from urllib.parse import quote

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.examples import share
from tests.unit.aliases import alias
from truepixel_dagster.events.ad import Ad, anonymous_ad
from truepixel_dagster.events.channel_rules import CHANNELS
from truepixel_dagster.events.hosts import host_of
from truepixel_dagster.events.sources import DEFAULT
from truepixel_dagster.events.visits import MAX_VALUE, aliases_of, anonymised_addresses, visit

SHOP = "https://demo-shop.example/"
OWN = frozenset({"demo-shop.myshopify.com", "demo-shop.co.uk", "bücher.example"})


def of_url(query: str, referrer: str | None = None) -> Ad:
    ad = visit(f"{SHOP}?{query}", None, referrer, own_domains=OWN)
    assert ad
    return ad


def from_host(referrer: str) -> Ad | None:
    return visit(SHOP, "", referrer, own_domains=OWN)


@pytest.mark.parametrize(
    ("query", "platform", "channel"),
    [
        # Paid social, as Meta's own template writes it.
        ("utm_source=fb&utm_medium=cpc", "facebook", "paid_social"),
        ("utm_source=fb&utm_medium=paid&utm_campaign=120210&utm_id=120210&fbclid=IwAR1", "facebook", "paid_social"),
        ("utm_source=ig&utm_medium=paid_social", "instagram", "paid_social"),
        ("utm_source=ig&utm_medium=paid_social&fbclid=IwAR1", "instagram", "paid_social"),
        ("utm_source=an&utm_medium=paid&fbclid=IwAR1", "facebook", "paid_social"),
        ("utm_source=msg&utm_medium=paid&fbclid=IwAR1", "messenger", "paid_social"),
        ("utm_source=Facebook&utm_medium=PAID", "facebook", "paid_social"),
        ("utm_source=Facebook_Ads&utm_medium=cpm", "facebook", "paid_social"),
        ("utm_source=Meta&utm_medium=ppc", "facebook", "paid_social"),
        ("utm_source=m.facebook.com&utm_medium=referral", "facebook", "organic_social"),
        ("utm_source=l.instagram.com", "instagram", "organic_social"),
        ("utm_source=https%3A%2F%2Fwww.facebook.com%2F", "facebook", "organic_social"),
        ("utm_source=tik-tok&utm_medium=cpc", "tiktok", "paid_social"),
        ("utm_source=TikTok%20Ads&utm_medium=paid+social", "tiktok", "paid_social"),
        ("utm_source=x&utm_medium=social", "twitter", "organic_social"),
        ("utm_source=unheard-of&utm_medium=paid_social", "unheard-of", "paid_social"),
        ("utm_source=unheard-of&utm_medium=social", "unheard-of", "organic_social"),
        # fbclid is on every link out of Facebook.
        ("fbclid=IwAR0organic", "facebook", "organic_social"),
        ("fbclid=IwAR1&utm_medium=paid", "facebook", "paid_social"),
        ("fbclid=IwAR1&utm_medium=social&utm_source=facebook", "facebook", "organic_social"),
        ("fbclid=IwAR1&utm_source=klaviyo&utm_medium=email", "klaviyo", "email"),
        ("fbclid=IwAR1&utm_source=google&utm_medium=cpc", "google", "paid_search"),
        ("fbclid=IwAR1&utm_source=prospecting-1&utm_medium=cpc", "facebook", "paid_social"),
        ("fbclid=IwAR1&utm_source=anna&utm_medium=influencer", "anna", "unassigned"),
        # Google.
        ("gclid=EAIa", "google", "paid_search"),
        ("wbraid=1", "google", "paid_search"),
        ("gbraid=1&gad_source=1", "google", "paid_search"),
        ("GCLID=EAIa", "google", "paid_search"),
        ("%67clid=EAIa", "google", "paid_search"),
        ("gad_source=1", "google", "paid_search"),
        ("gad_source=1&gad_campaignid=21234567890", "google", "paid_search"),
        ("utm_source=google&utm_medium=cpc", "google", "paid_search"),
        ("utm_source=google&utm_medium=organic", "google", "organic_search"),
        ("utm_source=google", "google", "organic_search"),
        ("utm_source=adwords&utm_medium=ppc", "google", "paid_search"),
        ("utm_source=google_ads&utm_medium=cpc", "google", "paid_search"),
        ("utm_source=google&utm_medium=cpc&utm_campaign=Shopping_DE", "google", "paid_shopping"),
        ("utm_source=google&utm_medium=cpc&utm_campaign=workshop", "google", "paid_search"),
        ("gclid=1&utm_campaign=pla-shopping", "google", "paid_shopping"),
        ("gclid=1&utm_source=google&utm_medium=display", "google", "display"),
        ("gclid=1&utm_source=youtube&utm_medium=cpc", "youtube", "video"),
        ("gclid=1&utm_source=facebook&utm_medium=paid", "google", "paid_search"),
        ("gclid=1&fbclid=2", "google", "paid_search"),
        ("dclid=CJ1", "google", "display"),
        ("srsltid=AfmB", "google", "organic_shopping"),
        ("srsltid=AfmB&utm_source=google&utm_medium=organic", "google", "organic_shopping"),
        ("srsltid=AfmB&gclid=1", "google", "paid_search"),
        ("srsltid=AfmB&utm_source=klaviyo&utm_medium=email", "klaviyo", "email"),
        ("utm_source=google_shopping&utm_medium=cpc", "google", "paid_shopping"),
        ("utm_source=Google%20Shopping", "google", "organic_shopping"),
        # Other search.
        ("msclkid=1", "microsoft", "paid_search"),
        ("msclkid=1&utm_source=google&utm_medium=cpc", "microsoft", "paid_search"),
        ("msclkid=1&fbclid=2", "microsoft", "paid_search"),
        ("utm_source=bing&utm_medium=cpc", "microsoft", "paid_search"),
        ("utm_source=bing.com", "microsoft", "organic_search"),
        ("yclid=1", "yandex", "paid_search"),
        ("ysclid=1", "yandex", "organic_search"),
        ("vmcid=1", "yahoo", "paid_search"),
        # Other platforms' click ids.
        ("ttclid=E.C.P", "tiktok", "paid_social"),
        ("ScCid=1", "snapchat", "paid_social"),
        ("sccid=1", "snapchat", "paid_social"),
        ("twclid=1", "twitter", "paid_social"),
        ("li_fat_id=7f3a-1", "linkedin", "paid_social"),
        ("rdt_cid=41234", "reddit", "paid_social"),
        ("qclid=1", "quora", "paid_social"),
        ("epik=dj0y", "pinterest", "organic_social"),
        ("epik=dj0y&utm_medium=cpc", "pinterest", "paid_social"),
        ("epik=dj0y&utm_source=pinterest&utm_medium=paid", "pinterest", "paid_social"),
        ("tblci=GiA", "taboola", "display"),
        ("utm_source=taboola&utm_medium=cpc&tblci=GiA", "taboola", "display"),
        ("dicbo=v2", "outbrain", "display"),
        ("ob_click_id=1", "outbrain", "display"),
        ("obOrigUrl=true", "outbrain", "display"),
        ("irclickid=WxY1&irgwc=1", "impact", "affiliates"),
        ("irclickid=WxY1&utm_source=blog&utm_medium=cpa", "impact", "affiliates"),
        ("awc=1", "awin", "affiliates"),
        ("cjevent=1", "cj", "affiliates"),
        ("wickedid=1", "wickedreports", "unassigned"),
        # Mail, text messages, push.
        ("utm_medium=email", "unknown", "email"),
        ("utm_source=klaviyo&utm_medium=email&utm_campaign=Welcome+%28abc%29", "klaviyo", "email"),
        ("utm_source=Klaviyo&utm_medium=flow", "klaviyo", "email"),
        ("utm_source=klaviyo&utm_medium=campaign&_kx=abc", "klaviyo", "email"),
        ("utm_source=klaviyo&utm_medium=sms&_kx=abc", "klaviyo", "sms"),
        ("utm_source=Welcome%20Series&utm_medium=email&_kx=abc", "welcome series", "email"),
        ("_kx=abc", "klaviyo", "email"),
        ("mc_cid=abc123&mc_eid=def", "mailchimp", "email"),
        ("utm_source=newsletter", "newsletter", "email"),
        ("utm_source=shop&utm_medium=newsletter", "shop", "organic_shopping"),
        ("utm_source=weekly&utm_medium=newsletter", "weekly", "email"),
        ("utm_source=omnisend&utm_medium=email", "omnisend", "email"),
        ("utm_source=shopify_email&utm_medium=email", "shopifyemail", "email"),
        ("utm_source=klaviyo&utm_medium=E-Mail", "klaviyo", "email"),
        ("utm_source=attentive", "attentive", "sms"),
        ("utm_source=postscript&utm_medium=sms", "postscript", "sms"),
        ("utm_medium=sms", "unknown", "sms"),
        ("utm_source=pushowl&utm_medium=push", "pushowl", "push"),
        ("utm_medium=web_push", "unknown", "push"),
        ("utm_source=firebase", "firebase", "push"),
        # Affiliates, display, video, AI, shops, the rest.
        ("utm_source=some-blog&utm_medium=affiliate", "some-blog", "affiliates"),
        ("utm_source=awin&utm_medium=affiliates", "awin", "affiliates"),
        ("utm_source=shareasale", "shareasale", "affiliates"),
        ("utm_source=site&utm_medium=display", "site", "display"),
        ("utm_source=site&utm_medium=banner", "site", "display"),
        ("utm_source=site&utm_medium=cpm", "site", "display"),
        ("utm_source=criteo&utm_medium=cpc", "criteo", "display"),
        ("utm_source=site&utm_medium=cpc", "site", "unassigned"),
        ("utm_source=youtube&utm_medium=cpc", "youtube", "video"),
        ("utm_source=youtube", "youtube", "video"),
        ("utm_source=yt&utm_medium=social", "youtube", "organic_social"),
        ("utm_source=site&utm_medium=video", "site", "video"),
        ("utm_source=chatgpt.com", "chatgpt", "ai_assistant"),
        ("utm_source=chatgpt.com&utm_medium=referral", "chatgpt", "ai_assistant"),
        ("utm_source=openai&utm_medium=organic", "chatgpt", "ai_assistant"),
        ("utm_source=perplexity", "perplexity", "ai_assistant"),
        ("utm_source=site&utm_medium=ai-assistant", "site", "ai_assistant"),
        ("utm_source=shop_app&utm_medium=app", "shop", "organic_shopping"),
        ("utm_source=amazon&utm_medium=cpc", "amazon", "paid_shopping"),
        ("utm_source=partner.example&utm_medium=referral", "partner.example", "referral"),
        ("utm_source=foo&utm_medium=bar", "foo", "unassigned"),
        ("utm_id=120210000000000000", "unknown", "unassigned"),
        ("utm_campaign=spring", "unknown", "unassigned"),
        ("utm_source=Anna%40mail.example", "anna@mail.example", "unassigned"),
    ],
)
def test_a_url_names_platform_and_channel(query: str, platform: str, channel: str) -> None:
    ad = of_url(query)
    assert (ad.platform, ad.channel) == (platform, channel)


@pytest.mark.parametrize(
    ("referrer", "platform", "source", "medium", "channel"),
    [
        ("https://www.google.com/", "google", "google", "organic", "organic_search"),
        ("https://www.google.co.uk/", "google", "google", "organic", "organic_search"),
        ("https://google.de/search?q=hats", "google", "google", "organic", "organic_search"),
        ("https://www.google.com.br/", "google", "google", "organic", "organic_search"),
        ("https://news.google.com/", "google", "google", "organic", "organic_search"),
        ("https://images.google.fr/", "google", "google", "organic", "organic_search"),
        ("android-app://com.google.android.googlequicksearchbox/", "google", "google", "organic", "organic_search"),
        (
            "android-app://com.google.android.googlequicksearchbox/https/www.google.com",
            "google",
            "google",
            "organic",
            "organic_search",
        ),
        ("https://mail.google.com/", "gmail", "gmail", "referral", "email"),
        ("android-app://com.google.android.gm/", "gmail", "gmail", "referral", "email"),
        ("https://shopping.google.com/", "google", "google", "referral", "organic_shopping"),
        ("https://docs.google.com/", "google", "google", "referral", "referral"),
        ("https://gemini.google.com/", "gemini", "gemini.google.com", "ai-assistant", "ai_assistant"),
        ("https://www.bing.com/", "microsoft", "bing", "organic", "organic_search"),
        ("https://cn.bing.com/", "microsoft", "bing", "organic", "organic_search"),
        ("https://copilot.microsoft.com/", "copilot", "copilot.microsoft.com", "ai-assistant", "ai_assistant"),
        ("https://duckduckgo.com/", "duckduckgo", "duckduckgo", "organic", "organic_search"),
        ("https://www.baidu.com/", "baidu", "baidu", "organic", "organic_search"),
        ("https://yandex.ru/", "yandex", "yandex", "organic", "organic_search"),
        ("https://ya.ru/", "yandex", "yandex", "organic", "organic_search"),
        ("https://www.ecosia.org/", "ecosia", "ecosia", "organic", "organic_search"),
        ("https://de.search.yahoo.com/", "yahoo", "yahoo", "organic", "organic_search"),
        ("https://search.brave.com/", "brave", "brave", "organic", "organic_search"),
        ("https://search.naver.com/", "naver", "naver", "organic", "organic_search"),
        ("https://blog.naver.com/", "naver", "naver", "referral", "organic_social"),
        ("https://t.co/abc", "twitter", "twitter", "referral", "organic_social"),
        ("https://x.com/", "twitter", "twitter", "referral", "organic_social"),
        ("https://lnkd.in/", "linkedin", "linkedin", "referral", "organic_social"),
        ("https://l.facebook.com/", "facebook", "facebook", "referral", "organic_social"),
        ("http://m.facebook.com/", "facebook", "facebook", "referral", "organic_social"),
        ("android-app://com.facebook.katana/", "facebook", "facebook", "referral", "organic_social"),
        ("https://l.instagram.com/", "instagram", "instagram", "referral", "organic_social"),
        ("https://out.reddit.com/", "reddit", "reddit", "referral", "organic_social"),
        ("https://www.pinterest.co.uk/", "pinterest", "pinterest", "referral", "organic_social"),
        ("https://www.tiktok.com/", "tiktok", "tiktok", "referral", "organic_social"),
        ("https://www.threads.net/", "threads", "threads", "referral", "organic_social"),
        ("https://web.whatsapp.com/", "whatsapp", "whatsapp", "referral", "organic_social"),
        ("https://bsky.app/", "bluesky", "bluesky", "referral", "organic_social"),
        ("https://www.youtube.com/", "youtube", "youtube", "referral", "video"),
        ("https://m.youtube.com/", "youtube", "youtube", "referral", "video"),
        ("https://www.amazon.de/", "amazon", "amazon", "referral", "organic_shopping"),
        ("https://www.ebay.com/", "ebay", "ebay", "referral", "organic_shopping"),
        ("https://www.etsy.com/", "etsy", "etsy", "referral", "organic_shopping"),
        ("https://chatgpt.com/", "chatgpt", "chatgpt.com", "ai-assistant", "ai_assistant"),
        ("https://chat.openai.com/", "chatgpt", "chatgpt.com", "ai-assistant", "ai_assistant"),
        ("https://www.perplexity.ai/", "perplexity", "perplexity.ai", "ai-assistant", "ai_assistant"),
        ("https://claude.ai/", "claude", "claude.ai", "ai-assistant", "ai_assistant"),
        ("https://outlook.live.com/", "outlook", "outlook", "referral", "email"),
        ("https://blog.example.org/2026/hats", "blog.example.org", "blog.example.org", "referral", "referral"),
        ("https://www.partner.example:8443/", "partner.example", "partner.example", "referral", "referral"),
        ("https://anna:secret@partner.example/", "partner.example", "partner.example", "referral", "referral"),
        ("https://notgoogle.com/", "notgoogle.com", "notgoogle.com", "referral", "referral"),
        ("https://google.com.evil.example/", "google.com.evil.example", "google.com.evil.example", *["referral"] * 2),
        ("https://google.com@evil.example/", "evil.example", "evil.example", "referral", "referral"),
        ("https://münchen.example/", "xn--mnchen-3ya.example", "xn--mnchen-3ya.example", "referral", "referral"),
        ("https://xn--mnchen-3ya.example/", "xn--mnchen-3ya.example", "xn--mnchen-3ya.example", "referral", "referral"),
        ("http://[2001:db8::1]:8080/x", "[2001:db8::1]", "[2001:db8::1]", "referral", "referral"),
        ("http://203.0.113.9/", "203.0.113.9", "203.0.113.9", "referral", "referral"),
        ("android-app://com.example.reader/", "com.example.reader", "com.example.reader", "referral", "referral"),
        ("HTTPS://WWW.GOOGLE.COM/", "google", "google", "organic", "organic_search"),
        ("https://www.google.com./", "google", "google", "organic", "organic_search"),
        ("https://other-shop.myshopify.com/", *["other-shop.myshopify.com"] * 2, *["referral"] * 2),
    ],
)  # fmt: skip
def test_an_outside_referrer_is_a_visit(referrer: str, platform: str, source: str, medium: str, channel: str) -> None:
    ad = from_host(referrer)
    assert ad == Ad(platform=platform, source=source, medium=medium, channel=channel)


@pytest.mark.parametrize(
    "referrer",
    [
        "",
        None,
        "https://demo-shop.example/",
        "https://demo-shop.example/products/hat?variant=1",
        "http://demo-shop.example",
        "https://www.demo-shop.example/",
        "https://blog.demo-shop.example/post",
        "https://DEMO-SHOP.example:443/",
        "https://demo-shop.co.uk/",
        "https://de.demo-shop.co.uk/",
        "https://xn--bcher-kva.example/",
        "https://demo-shop.myshopify.com/",
        "https://checkout.shopify.com/c/1",
        "https://shop.app/checkout",
        "https://pay.shopify.com/",
        "https://admin.shopify.com/",
        "https://www.paypal.com/checkoutnow",
        "https://pay.klarna.com/",
        "https://payments.klarna.com/",
        "https://hooks.stripe.com/3d_secure",
        "https://checkout.stripe.com/",
        "https://portal.afterpay.com/",
        "https://pay.google.com/",
        "https://accounts.google.com/",
        "https://3ds.somebank.example/challenge",
        "https://acs.somebank.co.uk/",
        "https://acs-challenge.somebank.example/",
        "https://www.3dsecure.io/",
        "https://centinelapi.cardinalcommerce.com/",
        "https://idcheck.acs.touchtechpayments.com/",
        "about:blank",
        "null",
        "/products/hat",
        "chrome-extension://abc/",
        "file:///x.html",
        "https://",
        "https:///",
        "//",
        "android-app://",
    ],
)
def test_the_shops_own_hosts_and_its_payment_pages_are_no_visits(referrer: str | None) -> None:
    assert visit(SHOP, "", referrer, own_domains=OWN) is None


def test_any_shop_at_shopify_is_the_own_shop_unless_the_own_domain_is_known() -> None:
    referrer = "https://demo-shop.myshopify.com/"
    assert visit(SHOP, None, referrer) is None
    assert visit(SHOP, None, referrer, own_domains={"demo-shop.myshopify.com"}) is None
    other = visit(SHOP, None, referrer, own_domains={"elsewhere.myshopify.com"})
    assert other == Ad("demo-shop.myshopify.com", "demo-shop.myshopify.com", "referral", channel="referral")
    assert visit("https://demo-shop.myshopify.com/", None, "https://elsewhere.myshopify.com/") is not None


def test_a_registered_domain_that_begins_like_a_banks_host_is_no_bank() -> None:
    for host in ("acs.org", "3ds.com", "pubs.acs.org", "acsshop.example"):
        assert visit(SHOP, None, f"https://{host}/") is not None


@pytest.mark.parametrize(
    ("query", "click_id", "click_id_type", "campaign_id"),
    [
        ("gclid=g&fbclid=f", "g", "gclid", None),
        ("fbclid=f&gclid=g", "g", "gclid", None),
        ("fbclid=f&ttclid=t", "t", "ttclid", None),
        ("fbclid=f&utm_source=klaviyo", "f", "fbclid", None),
        ("SCCID=s", "s", "ScCid", None),
        ("gad_source=1&gad_campaignid=212", None, None, "212"),
        ("gclid=g&gad_source=1&gad_campaignid=212", "g", "gclid", "212"),
        ("utm_id=7&gad_campaignid=212", None, None, "7"),
        ("gclid=&gclid=undefined&gclid=g&gclid=h", "g", "gclid", None),
        ("mc_cid=c1&mc_eid=e1", None, None, "c1"),
        ("_kx=person", None, None, None),
        ("irclickid=i&irgwc=1", "i", "irclickid", None),
        ("utm_id=7&fbclid=f", "f", "fbclid", "7"),
        ("utm_id=7", None, None, "7"),
    ],
)
def test_the_deciding_click_id_and_the_campaigns_id(
    query: str, click_id: str | None, click_id_type: str | None, campaign_id: str | None
) -> None:
    ad = of_url(query)
    assert (ad.click_id, ad.click_id_type, ad.campaign_id) == (click_id, click_id_type, campaign_id)


@pytest.mark.parametrize(
    ("query", "referrer", "expected"),
    [
        # The referrer says what the URL leaves out.
        ("utm_campaign=spring", "https://www.google.de/", ("google", "google", "organic", "organic_search")),
        ("utm_medium=story", "https://l.instagram.com/", ("instagram", "instagram", "story", "organic_social")),
        ("utm_id=7", "https://m.facebook.com/", ("facebook", "facebook", "referral", "organic_social")),
        ("utm_id=7", "https://demo-shop.example/", ("unknown", None, None, "unassigned")),
        # A click id names the platform; the referrer names which platform of its family.
        ("fbclid=f", "https://l.facebook.com/", ("facebook", None, None, "organic_social")),
        ("fbclid=f", "https://l.instagram.com/", ("instagram", None, None, "organic_social")),
        ("fbclid=f", "https://www.google.com/", ("facebook", None, None, "organic_social")),
        ("fbclid=f&utm_medium=paid", "https://l.instagram.com/", ("instagram", None, "paid", "paid_social")),
        ("gclid=g", "https://www.youtube.com/", ("google", None, None, "paid_search")),
        ("li_fat_id=7", "https://www.linkedin.com/", ("linkedin", None, None, "paid_social")),
        # A source precedes the referrer.
        ("utm_source=fb", "https://www.google.com/", ("facebook", "fb", None, "organic_social")),
        ("utm_source=(direct)&utm_id=7", "https://bing.com/", ("microsoft", "bing", "organic", "organic_search")),
    ],
)  # fmt: skip
def test_a_url_and_an_outside_referrer_together(query: str, referrer: str, expected: tuple[str, ...]) -> None:
    ad = of_url(query, referrer)
    assert (ad.platform, ad.source, ad.medium, ad.channel) == expected


@pytest.mark.parametrize(
    "url",
    ["/?utm_source=(direct)&utm_medium=(none)", "/?gclid=undefined", "/?utm_source=&fbclid=", "/?variant=1&_pos=2"],
)
def test_a_url_that_says_nothing_is_no_visit(url: str) -> None:
    assert visit(url, None, None) is None
    assert visit(f"https://demo-shop.example{url}", None, SHOP) is None


def test_all_fields_keep_their_text() -> None:
    query = (
        "utm_source=FB&utm_medium=Paid&utm_campaign=Spring+26&utm_content=ad%201&utm_term=h%C3%BCte&utm_id=7&fbclid=f"
    )
    assert of_url(query) == Ad(
        platform="facebook",
        source="FB",
        medium="Paid",
        campaign="Spring 26",
        content="ad 1",
        term="hüte",
        click_id="f",
        click_id_type="fbclid",
        campaign_id="7",
        channel="paid_social",
    )


def test_a_webhooks_landing_page_is_a_path() -> None:
    ad = visit("/products/hat?gclid=g#top", None, "https://www.google.com/", own_domains=OWN)
    assert ad == Ad("google", click_id="g", click_id_type="gclid", channel="paid_search")
    ad = visit("/", None, "https://www.google.com/", own_domains=OWN)
    assert ad == Ad("google", "google", "organic", channel="organic_search")
    assert visit("/", None, "https://demo-shop.myshopify.com/", own_domains=OWN) is None
    assert visit(None, None, None) is None


def test_search_counts_where_the_address_has_no_query() -> None:
    ad = Ad("google", click_id="g", click_id_type="gclid", channel="paid_search")
    assert visit(SHOP, "?gclid=g", None) == visit(SHOP, "gclid=g", None) == visit(None, "?gclid=g", None) == ad
    assert visit(f"{SHOP}?a=1", "?gclid=g", None) is None


def test_a_shop_has_aliases_of_its_own() -> None:
    aliases = aliases_of(
        {"Herbst Flyer": "Print", "fb": "partner", "partner.example": "facebook", "my-blog.example": "Anna"}
    )
    ad = visit("/?utm_source=herbst_flyer&utm_medium=qr", None, None, aliases=aliases)
    assert ad
    assert (ad.platform, ad.source, ad.channel) == ("print", "herbst_flyer", "unassigned")
    ad = visit("/?utm_source=FB", None, None, aliases=aliases)
    assert ad
    assert ad.platform == "partner"
    ad = visit("/", None, "https://www.partner.example/", aliases=aliases)
    assert ad == Ad("facebook", "facebook", "referral", channel="organic_social")
    ad = visit("/", None, "https://en.my-blog.example/", aliases=aliases)
    assert ad == Ad("anna", "anna", "referral", channel="referral")
    other = visit("/", None, "https://myblog.example/", aliases=aliases)
    assert other == Ad("myblog.example", "myblog.example", "referral", channel="referral")
    # A shop's own name for a source is known: the fbclid of a copied link does not override it.
    ad = visit("/?utm_source=herbst-flyer&utm_medium=cpc&fbclid=f", None, None, aliases=aliases)
    assert ad
    assert ad.platform == "print"


def test_values_are_trimmed_and_cut() -> None:
    ad = of_url("utm_source=%20" + "a" * 511 + "%20b&utm_medium=" + "m" * 600 + "&utm_campaign=%00x%ff")
    assert ad.source == "a" * 511
    assert ad.medium == "m" * MAX_VALUE
    assert ad.campaign == "\ufffdx\ufffd"


@pytest.mark.parametrize(
    "waste",
    [
        "&".join(f"p{number}={number}" for number in range(share(100_000))),
        "a" * share(2_000_000),
        "=" * share(2_000_000),
        "&" * share(2_000_000),
        "%" * share(2_000_000),
        "%67" * share(700_000) + "=1",
        "utm_source" * share(200_000) + "=1",
        "utm_source=" + "%20" * share(700_000),
    ],
    ids=lambda waste: waste[:12],
)
def test_an_address_of_megabytes_gives_its_ad(waste: str) -> None:
    ad = of_url(f"{waste}&gclid=g")
    assert (ad.platform, ad.click_id) == ("google", "g")
    assert visit(f"{SHOP}{waste}", None, f"https://{waste}/") is None


@pytest.mark.parametrize("waste", ["@", "a.", ":", "[", "ü"])
def test_a_host_of_megabytes_names_no_source(waste: str) -> None:
    host = waste * share(2_000_000)
    assert visit(SHOP, None, f"https://{host}") is None
    found = visit(f"https://{host}", None, "https://www.google.com/")
    assert found
    assert found.platform == "google"


TEXT = st.text(max_size=40)
HOSTS = st.sampled_from(
    ["www.google.com", "l.facebook.com", "l.instagram.com", "demo-shop.example", "shop.app", "a.example", "chatgpt.com",
     "xn--", "ü.example", "..", "[::1]", "1.2.3.4", "a" * 300, "co.uk", "localhost", "3ds.bank.example"]
)  # fmt: skip
REFERRERS = st.one_of(
    st.none(),
    TEXT,
    st.tuples(st.sampled_from(["https://", "http://", "android-app://", "//", ""]), HOSTS, TEXT).map("".join),
)
VALUES = st.one_of(
    TEXT,
    st.sampled_from(
        ["fb", "google", "cpc", "email", "a@b.example", "shop", "paid@x", "(none)", "newsletter", "display"]
    ),
    st.text(alphabet="ab @.%+", min_size=505, max_size=520),
)
NAMES = st.sampled_from([*DEFAULT.parameters, "x", "UTM_SOURCE", "gclid"])
QUERIES = st.lists(st.tuples(NAMES, VALUES), max_size=6).map(
    lambda pairs: "&".join(f"{name}={quote(value, safe='', errors='replace')}" for name, value in pairs)
)


@given(st.one_of(TEXT, QUERIES.map(lambda query: f"{SHOP}?{query}")), st.one_of(st.none(), TEXT), REFERRERS)
@example("https://\ud800/?utm_source=\ud800", "?\ud800", "https://\ud800.example/")
@example("https://[/?gclid=1", None, "https://[::1/")
def test_every_address_gives_a_visit_within_bounds_or_none(url: str, search: str | None, referrer: str | None) -> None:
    ad = visit(url, search, referrer, own_domains=OWN)
    if ad is None:
        return
    assert ad.platform
    assert ad.channel in CHANNELS
    for value in (ad.source, ad.medium, ad.campaign, ad.content, ad.term, ad.click_id, ad.campaign_id):
        assert value is None or (value and len(value) <= MAX_VALUE)
    assert visit(url, search, referrer, own_domains=OWN) == ad


@given(QUERIES, REFERRERS)
@example("utm_source=A%40b.example&utm_medium=cpc%40x&utm_campaign=shop%40x&utm_id=a%40b", None)
@example("utm_campaign=spring", "https://www.google.de/search?q=anna")
@example("fbclid=f", "https://l.instagram.com/?u=anna")
@example("", "android-app://com.google.android.gm/anna")
@example("gad_campaignid=1&utm_id=2&mc_cid=3&_kx=4", "https://partner.example/anna")
def test_an_anonymised_address_gives_its_anonymised_visit(query: str, referrer: str | None) -> None:
    url = f"{SHOP}?{query}"
    ad = visit(url, None, referrer, own_domains=OWN)
    left, origin = anonymised_addresses(url, None, referrer, alias, own_domains=OWN)
    again = visit(left, None, origin, own_domains=OWN)
    assert again == (anonymous_ad(ad, alias) if ad else None)
    assert host_of(origin) == (host_of(referrer) if ad else None)
    left, origin = anonymised_addresses(left, None, origin, alias, own_domains=OWN)
    assert visit(left, None, origin, own_domains=OWN) == (anonymous_ad(again, alias) if again else None)


@pytest.mark.parametrize(
    ("url", "referrer", "left", "origin"),
    [
        (f"{SHOP}hats?x=anna#anna", "https://anna:anna@www.google.de/search?q=anna", SHOP, "https://www.google.de/"),
        ("/hats?x=anna", "https://www.google.de/search?q=anna", "/", "https://www.google.de/"),
        (f"{SHOP}anna?utm_source=fb&x=anna", f"{SHOP}anna", f"{SHOP}?utm_source=fb", SHOP),
        (f"{SHOP}anna", "android-app://com.google.android.gm/anna", SHOP, "android-app://com.google.android.gm/"),
        (f"{SHOP}anna", f"{SHOP}anna", None, None),
    ],
)
def test_only_hosts_and_the_visits_parameters_of_addresses_remain(
    url: str, referrer: str, left: str | None, origin: str | None
) -> None:
    assert anonymised_addresses(url, None, referrer, alias, own_domains=OWN) == (left, origin)


@given(QUERIES)
def test_an_ad_is_read_from_documents_of_earlier_versions(query: str) -> None:
    ad = visit(f"{SHOP}?{query}", None, None)
    if ad:
        written = msgspec.to_builtins(ad)
        assert msgspec.convert(written, Ad) == ad
        assert msgspec.convert({"platform": "google", "click_id": "g"}, Ad) == Ad("google", click_id="g")
