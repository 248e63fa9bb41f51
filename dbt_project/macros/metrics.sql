{#-
    The rows of every metric that a model's meta defines: one of all of the time and, where the metric has a time, one a
    month. A ratio is made of two metrics, by month where both have months.
-#}
{% macro metric_rows(metrics, relations) %}
    {%- for metric in metrics if metric.expression is defined %}
    {%- set relation = relations[metric.from] %}
    {%- set condition = metric.get('where', 'true').replace('{from}', relation | string) %}
    {{ 'union all' if not loop.first }}
    select
        '{{ metric.name }}' as metric,
        cast(null as date) as month,
        cast({{ metric.expression }} as double) as value
    from {{ relation }}
    where {{ condition }}
    {%- if metric.month is defined %}
    union all
    select
        '{{ metric.name }}' as metric,
        cast(date_trunc('month', {{ metric.month }}) as date) as month,
        cast({{ metric.expression }} as double) as value
    from {{ relation }}
    where {{ condition }}
    group by cast(date_trunc('month', {{ metric.month }}) as date)
    {%- endif %}
    {%- endfor %}
{% endmacro %}
