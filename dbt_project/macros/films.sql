{#- How many ratings the mean of all ratings weighs in a film's bayesian rating: one that so many rated counts half. -#}
{% macro prior_ratings() -%}
    25
{%- endmacro %}

{#- The band of a length in minutes; the bands are the ones in which people plan an evening. NULL stays NULL. -#}
{% macro runtime_band(minutes) -%}
    case
            when {{ minutes }} < 40 then 'under 40 min'
            when {{ minutes }} < 90 then '40 to 89 min'
            when {{ minutes }} < 120 then '90 to 119 min'
            when {{ minutes }} < 150 then '120 to 149 min'
            when {{ minutes }} >= 150 then '150 min and more'
        end
{%- endmacro %}
