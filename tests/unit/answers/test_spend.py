"""Files of spend and rates as Google, Meta, TikTok and spreadsheets write them."""

from __future__ import annotations

import csv
import io
from datetime import date
from decimal import Decimal

import pytest

from truepixel_dagster.answers.grid import NoGrid, lines_of
from truepixel_dagster.answers.rates import Rate
from truepixel_dagster.answers.spend import BadRow, File, Spend, Unrecognised, merged_spend, read

SHOP, DAY = "548380009", date(2026, 11, 1)
GOOGLE = (
    "Campaign report\r\n"
    '"November 1, 2026 - November 2, 2026"\r\n'
    "Day,Campaign,Campaign ID,Currency code,Cost,Clicks,Impr.\r\n"
    '2026-11-01,Brand,11,EUR,"1,234.50","1,000","20,000"\r\n'
    "2026-11-02,Brand,11,EUR,0.00, --,0\r\n"
    'Total: Campaigns,--,,EUR,"1,234.50","1,000","20,000"\r\n'
    'Total: Account,--,,EUR,"1,234.50","1,000","20,000"\r\n'
)
META = (
    "Reporting starts,Reporting ends,Campaign name,Amount spent (EUR),Impressions,Link clicks\n"
    "2026-11-01,2026-11-30,,100.50,1100,9\n"
    "2026-11-01,2026-11-01,Spring,60.50,1000,7\n"
)
TIKTOK = (
    "Campaign name,Campaign ID,By Day,Currency,Cost,Impressions,Clicks (destination)\n"
    "Dances,77,2026-11-01 00:00:00,USD,12.34,10,1\n"
    "Total of 1 results,-,-,USD,12.34,10,1\n"
)
PLAIN = "shop,day,platform,campaign,amount,currency\n548380009,2026-11-01,Google,Brand,500,JPY\n"


def with_tabs(text: str) -> str:
    written = io.StringIO()
    csv.writer(written, delimiter="\t").writerows(csv.reader(io.StringIO(text)))
    return written.getvalue()


def found(text: str | bytes, shop: str | None = SHOP, currency: str | None = None) -> File:
    return read(lines_of(text if isinstance(text, bytes) else text.encode()), shop, currency)


@pytest.mark.parametrize(
    ("text", "form", "first"),
    [
        (GOOGLE, "Google Ads", Spend(SHOP, DAY, "google", "11", "Brand", "EUR", 123450, 1000, 20000)),
        (META, "Meta Ads", Spend(SHOP, DAY, "facebook", "", "Spring", "EUR", 6050, 7, 1000)),
        (TIKTOK, "TikTok Ads", Spend(SHOP, DAY, "tiktok", "77", "Dances", "USD", 1234, 1, 10)),
        (PLAIN, "plain", Spend(SHOP, DAY, "google", "", "Brand", "JPY", 500)),
    ],
)
def test_exports_are_recognised_by_their_columns_and_sums_are_left_out(text: str, form: str, first: Spend) -> None:
    file = found(text)
    assert (file.form, file.spend[0], file.bad) == (form, first, ())
    assert len(file.spend) == (2 if form == "Google Ads" else 1)


@pytest.mark.parametrize(
    "content",
    [
        with_tabs(GOOGLE).encode("utf-16"),
        b"\xef\xbb\xbf" + GOOGLE.encode(),
    ],
    ids=["utf-16 with tabs", "byte order mark"],
)
def test_encodings_and_separators_change_nothing(content: bytes) -> None:
    assert found(content) == found(GOOGLE)


@pytest.mark.parametrize(
    ("cells", "amounts"),
    [
        (["1,234.50", "7"], [123450, 700]),
        (["1.234,50", "7"], [123450, 700]),
        # Alone it is ambiguous; the other one decides.
        (["1.234", "12,5"], [123400, 1250]),
        (["1,234", "12.5"], [123400, 1250]),
        (["€ 1 234,50", "CHF 7.–"], [123450, 700]),
        (["12.345", "12.344"], [1235, 1234]),
        (["1,23,456.00", "nine"], [None, None]),
        (["-5", "1e3"], [None, None]),
        (["(5.00)", "5.00-"], [None, None]),
        (["\u22125.00", "\u20135.00"], [None, None]),
        (["0,500", "0,125"], [50, 13]),
        (["0.500", "1,5"], [None, 150]),
    ],
)
def test_numbers_of_a_file_are_of_one_style(cells: list[str], amounts: list[int | None]) -> None:
    lines = "".join(f'2026-11-01;c{number};"{cell}";EUR\n' for number, cell in enumerate(cells))
    file = found(f"Day;Campaign;Cost;Currency code\n{lines}")
    by_campaign = {each.campaign: each.amount for each in file.spend}
    assert [by_campaign.get(f"c{number}") for number in range(len(cells))] == amounts
    assert len(file.bad) == amounts.count(None)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("2026-11-01,Brand,9.00,EUR", "repeats line 2: write one line for each day and campaign (or currencies)"),
        ("11/02/2026,Brand,9.00,EUR", "'11/02/2026' is not a day such as 2026-01-31"),
        ("2026-11-02,,9.00,EUR", "campaign is empty"),
        ("2026-11-02,Brand,,EUR", "amount is empty"),
        ("2026-11-02,Brand,9.00,EURO", "currency 'EURO' is not in ISO 4217"),
        ("2026-11-02,Brand,9.00,", "no column has the currency: export the column, or give it with --currency"),
    ],
)
def test_a_bad_row_is_named_with_its_line_and_reason(row: str, reason: str) -> None:
    file = found(f"Day,Campaign,Cost,Currency code\n2026-11-01,Brand,1.00,EUR\n{row}\n")
    assert file.bad == (BadRow(3, reason),)


def test_options_supply_what_no_column_has() -> None:
    text = "Day,Campaign,Cost\n2026-11-01,Brand,1.00\n"
    assert found(text, currency="CHF").spend[0].currency == "CHF"
    assert "--shop" in found(text, shop=None, currency="CHF").bad[0].reason


def test_a_row_of_several_days_is_bad() -> None:
    text = META.replace("2026-11-01,2026-11-01", "2026-11-01,2026-11-05")
    assert found(text).bad == (BadRow(3, "the row covers several days: export with the breakdown by day"),)


def test_rates_are_exact() -> None:
    file = found("day,from,to,rate\n2026-11-01,EUR,USD,1.083412345678\n2026-11-01,EUR,EUR,1\n2026-11-01,EUR,JPY,0\n")
    assert file.rates == (Rate(DAY, "EUR", "USD", Decimal("1.083412345678")),)
    assert [each.line for each in file.bad] == [3, 4]


def test_other_files_are_refused_with_what_is_known() -> None:
    with pytest.raises(Unrecognised, match=r"Google Ads: day, cost, campaign or campaign id"):
        found("a,b\n1,2\n")
    with pytest.raises(NoGrid, match="UTF-8"):
        found(b"\x80\x81")
    with pytest.raises(NoGrid, match="not CSV"):
        found('day,"campaign\n')


def test_the_newest_import_of_a_campaign_counts_whether_by_name_or_id() -> None:
    def of(campaign_id: str, campaign: str, amount: int) -> Spend:
        return Spend(SHOP, DAY, "google", campaign_id, campaign, "EUR", amount)

    imports = [
        [of("", "Brand", 1), of("", "Other", 2)],
        [of("11", "Brand", 3)],
        [of("11", "Brand (renamed)", 4), of("12", "Other", 5)],
    ]
    assert [each.amount for each in merged_spend(imports)] == [4, 5]
    assert [each.amount for each in merged_spend([[of("1", "Same", 1)], [of("2", "Same", 2)]])] == [1, 2]
