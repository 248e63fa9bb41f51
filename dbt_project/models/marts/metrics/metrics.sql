{%- set defined = config.get('meta', {}).get('metrics', []) %}
{%- set relations = {
    'fct_ratings': ref('fct_ratings'),
    'fct_retention': ref('fct_retention'),
    'fct_user_sessions': ref('fct_user_sessions'),
    'dim_movies': ref('dim_movies'),
} %}
with measured as (

    {% if defined -%}
    {{ metric_rows(defined, relations) }}
    {%- else -%}
    select
        '' as metric,
        cast(null as date) as month,
        cast(null as double) as value
    {%- endif %}

),

ratios as (

    {% for metric in defined if metric.numerator is defined -%}
    {{ ' union all' if not loop.first }}
    select
        '{{ metric.name }}' as metric,
        numerator.month,
        numerator.value / denominator.value as value
    from measured as numerator
    inner join measured as denominator on numerator.month is not distinct from denominator.month
    where numerator.metric = '{{ metric.numerator }}' and denominator.metric = '{{ metric.denominator }}'
    {%- else -%}
    select * from measured
    where false
    {%- endfor %}

),

names as (

    {% for metric in defined -%}
    {{ ' union all' if not loop.first }}
    select
        '{{ metric.name }}' as metric,
        '{{ metric.label }}' as label,
        '{{ metric.unit }}' as unit
    {%- else -%}
    select
        '' as metric,
        '' as label,
        '' as unit
    {%- endfor %}

),

final as (

    select
        found.metric,
        coalesce(found.month, date '0001-01-01') as since,
        found.month,
        names.label,
        names.unit,
        cast(round(found.value, 6) as decimal(18, 6)) as value
    from (select * from measured union all select * from ratios) as found
    inner join names on found.metric = names.metric
    where isfinite(found.value)
)

select * from final
