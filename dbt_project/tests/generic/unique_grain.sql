{#-
    One row for each combination of the columns, and none of them NULL: the grain of a model. Where each row's key is
    above that of the row before it, which is seen in a fraction of the time, no two are equal and nothing is grouped.
-#}
{% test unique_grain(model, columns, column_name=none) %}

with steps as (

    select
        {% for column in columns -%}
        {{ column }} as key_{{ loop.index }},
        lag({{ column }}) over () as previous_{{ loop.index }},
        {% endfor -%}
        lag(true) over () as has_previous
    from {{ model }}

),

doubtful as (

    select count(*) as row_count
    from steps
    where
        (
            has_previous
            and (
                {%- for column in columns %}
                {%- set place = loop.index %}
                {{ 'or ' if not loop.first }}(
                    {%- for other in range(1, place) %} key_{{ other }} = previous_{{ other }} and {%- endfor %} key_{{ place }} > previous_{{ place }})
                {%- endfor %}
            ) is not true
        )
        {%- for column in columns %}
        or key_{{ loop.index }} is null
        {%- endfor %}

)

select {{ columns | join(', ') }}
from {{ model }}
where (select row_count from doubtful) > 0
group by {{ columns | join(', ') }}
having count(*) > 1 {%- for column in columns %} or {{ column }} is null {%- endfor %}

{% endtest %}
