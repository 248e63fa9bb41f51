-- How many films do people rate in one go?
select
    case
        when rating_count = 1 then '1'
        when rating_count <= 5 then '2 to 5'
        when rating_count <= 20 then '6 to 20'
        else 'more than 20'
    end as ratings_in_session,
    count(*) as sessions,
    sum(rating_count) as ratings,
    round(count(*) / sum(count(*)) over (), 4) as share
from {{ ref('fct_user_sessions') }}
group by ratings_in_session
order by min(rating_count)
