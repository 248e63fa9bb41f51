{#-
    Two steps between the ratings and a history by ``key``, where ratings were replaced: ``standing_days``, until which day
    some rating of a day stands, and ``first_days``, since which day a day is the first on which a standing rating was
    given. Both only of the keys in ``replaced``, whose ratings of a day may all be replaced; of any other key the first
    day stays the first. Reads the steps ``ratings`` and ``replaced``.
-#}
{% macro standing_days(key) -%}
    given_days as (

    select
        {{ key }},
        cast(rated_at as date) as rated_on,
        count(*) as given_count
    from ratings
    where {{ key }} in (select replaced.{{ key }} from replaced)
    group by all

),

replaced_days as (

    select
        {{ key }},
        cast(rated_at as date) as rated_on,
        count(*) as replaced_count,
        max(cast(replaced_at as date)) as replaced_on
    from replaced
    group by all

),

standing_days as (

    select
        given_days.{{ key }},
        given_days.rated_on,
        case
            when given_days.given_count = replaced_days.replaced_count then replaced_days.replaced_on
            else date 'infinity'
        end as stands_until
    from given_days
    left join replaced_days
        on given_days.{{ key }} = replaced_days.{{ key }} and given_days.rated_on = replaced_days.rated_on

),

-- A day becomes the first when all days before it have lost their ratings.
first_days as (

    select
        {{ key }},
        rated_on as first_rated_on,
        coalesce(
            max(stands_until) over (
                partition by {{ key }} order by rated_on rows between unbounded preceding and 1 preceding
            ),
            rated_on
        ) as first_from
    from standing_days
    qualify stands_until > first_from

),

first_moves as (

    select
        {{ key }},
        first_from as rated_on,
        first_rated_on - lag(first_rated_on) over (partition by {{ key }} order by first_rated_on) as moved_days
    from first_days

)
{%- endmacro %}
